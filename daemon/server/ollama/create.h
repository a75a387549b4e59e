// POST /api/create, /api/copy, DELETE /api/delete, and the blobs that models are created from.
#pragma once

#include <map>
#include <string>

#include "daemon/registry/created_models.h"
#include "daemon/server/http/router.h"
#include "daemon/server/services.h"

namespace mlxr::ollama {

struct CreateRequest {
  CreatedModel model;                           // without its weights
  std::string from;                             // the name of a model that is here
  std::map<std::string, std::string> files;     // names and digests of uploaded blobs
  std::map<std::string, std::string> adapters;  // the same, of LoRA adapters
  bool stream = true;
};

// Throws RequestError naming the field.
CreateRequest read_create_request(const std::string& body);

struct CopyRequest {
  std::string source, destination;
};
CopyRequest read_copy_request(const std::string& body);

void add_create_routes(Router& router, Services& services);

}  // namespace mlxr::ollama
