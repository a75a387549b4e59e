// JSON schemas of bodies, for the description of the API (openapi.h). Each API's lie beside its
// readers; a test asks the readers which fields they look for, and holds the schemas against that.
#pragma once

#include <string>
#include <vector>

#include "daemon/server/json_body.h"

namespace mlxr {

// An object of these properties (a JSON object as text). Where a property is not required, null is
// as good as leaving it out; properties beyond these are ignored.
Json request_schema(const std::string& properties, const std::vector<std::string>& required = {});

// An object that always has the `required` ones of these properties.
Json answer_schema(const std::string& properties, const std::vector<std::string>& required);

// `schema` with the properties of `more`, a request's schema or an answer's, added.
Json extended(Json schema, const Json& more);

Json number_schema(double lowest, double highest);
Json integer_schema(int64_t lowest, int64_t highest);

// Also null, as request_schema's.
Json or_null(Json schema);

}  // namespace mlxr
