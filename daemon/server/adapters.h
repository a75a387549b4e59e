// The LoRA adapters that a request asks for, from its model's store.
#pragma once

#include <optional>
#include <vector>

#include "daemon/scheduler/model_manager.h"

namespace mlxr {

// May read files. Throws RequestError about the field "lora": 404 for one that the model does not
// have, 422 for one that cannot be used.
std::vector<ScaledAdapter> adapters_for(ServedModel& model,
                                        const std::optional<std::vector<AdapterChoice>>& choice);

// The defaults of the model from now on. Throws as adapters_for.
void set_default_adapters(ServedModel& model, const std::vector<AdapterChoice>& choice);

// One more for the model, when its memory is there. Throws as adapters_for.
void add_adapter(ModelManager& models, ServedModel& model, const AdapterSettings& adapter);
void remove_adapter(ModelManager& models, ServedModel& model, const std::string& name);

}  // namespace mlxr
