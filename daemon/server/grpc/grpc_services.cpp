#include "daemon/server/grpc/grpc_services.h"

#include <mlxr/v1/inference.grpc.pb.h>
#include <mlxr/v1/metrics.grpc.pb.h>
#include <mlxr/v1/models.grpc.pb.h>

#include "daemon/server/grpc/inference_methods.h"
#include "daemon/server/grpc/model_methods.h"

namespace mlxr::rpc {
namespace {

using Context = grpc::CallbackServerContext;
using Bytes = grpc::ByteBuffer;
using Unary = grpc::ServerUnaryReactor;
using Stream = grpc::ServerWriteReactor<grpc::ByteBuffer>;

using InferenceBase =
    v1::Inference::WithRawCallbackMethod_Generate<v1::Inference::WithRawCallbackMethod_Chat<
        v1::Inference::WithRawCallbackMethod_Embed<v1::Inference::WithRawCallbackMethod_Tokenize<
            v1::Inference::WithRawCallbackMethod_Detokenize<v1::Inference::Service>>>>>;

class InferenceService : public InferenceBase {
 public:
  explicit InferenceService(Calls& calls) : calls_(calls) {}

  Stream* Generate(Context* context, const Bytes* request) override {
    return calls_.stream(generate_, *context, *request);
  }
  Stream* Chat(Context* context, const Bytes* request) override {
    return calls_.stream(chat_, *context, *request);
  }
  Unary* Embed(Context* context, const Bytes* request, Bytes* response) override {
    return calls_.unary(embed_, *context, *request, *response);
  }
  Unary* Tokenize(Context* context, const Bytes* request, Bytes* response) override {
    return calls_.unary(tokenize_, *context, *request, *response);
  }
  Unary* Detokenize(Context* context, const Bytes* request, Bytes* response) override {
    return calls_.unary(detokenize_, *context, *request, *response);
  }

 private:
  Calls& calls_;
  const Method generate_{"/mlxr.v1.Inference/Generate", Access::kInference, true, generate};
  const Method chat_{"/mlxr.v1.Inference/Chat", Access::kInference, true, chat};
  const Method embed_{"/mlxr.v1.Inference/Embed", Access::kInference, true, embed};
  const Method tokenize_{"/mlxr.v1.Inference/Tokenize", Access::kInference, true, tokenize};
  const Method detokenize_{"/mlxr.v1.Inference/Detokenize", Access::kInference, true, detokenize};
};

using ModelsBase = v1::Models::WithRawCallbackMethod_ListModels<
    v1::Models::WithRawCallbackMethod_GetModel<v1::Models::WithRawCallbackMethod_LoadModel<
        v1::Models::WithRawCallbackMethod_UnloadModel<v1::Models::Service>>>>;

class ModelsService : public ModelsBase {
 public:
  explicit ModelsService(Calls& calls) : calls_(calls) {}

  Unary* ListModels(Context* context, const Bytes* request, Bytes* response) override {
    return calls_.unary(list_, *context, *request, *response);
  }
  Unary* GetModel(Context* context, const Bytes* request, Bytes* response) override {
    return calls_.unary(get_, *context, *request, *response);
  }
  Unary* LoadModel(Context* context, const Bytes* request, Bytes* response) override {
    return calls_.unary(load_, *context, *request, *response);
  }
  Unary* UnloadModel(Context* context, const Bytes* request, Bytes* response) override {
    return calls_.unary(unload_, *context, *request, *response);
  }

 private:
  Calls& calls_;
  const Method list_{"/mlxr.v1.Models/ListModels", Access::kInference, false, list_models};
  const Method get_{"/mlxr.v1.Models/GetModel", Access::kInference, false, get_model};
  const Method load_{"/mlxr.v1.Models/LoadModel", Access::kInference, true, load_model};
  const Method unload_{"/mlxr.v1.Models/UnloadModel", Access::kAdmin, false, unload_model};
};

class MetricsService : public v1::Metrics::WithRawCallbackMethod_GetMetrics<v1::Metrics::Service> {
 public:
  explicit MetricsService(Calls& calls) : calls_(calls) {}

  Unary* GetMetrics(Context* context, const Bytes* request, Bytes* response) override {
    return calls_.unary(get_, *context, *request, *response);
  }

 private:
  Calls& calls_;
  const Method get_{"/mlxr.v1.Metrics/GetMetrics", Access::kInference, false, get_metrics};
};

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> make_services(Calls& calls) {
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(std::make_unique<InferenceService>(calls));
  services.push_back(std::make_unique<ModelsService>(calls));
  services.push_back(std::make_unique<MetricsService>(calls));
  return services;
}

std::vector<std::string> service_names() {
  return {v1::Inference::service_full_name(), v1::Models::service_full_name(),
          v1::Metrics::service_full_name()};
}

}  // namespace mlxr::rpc
