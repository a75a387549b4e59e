// mlx bench --serve: how a daemon does under several clients at once. Starts one of its own, so
// that the user's is left alone and every cache is empty at first.
#pragma once

#include <filesystem>
#include <string>

namespace mlxr::cli {

struct ServeBenchOptions {
  std::filesystem::path model;
  int clients = 8;
  int prompt = 128, generate = 64;  // tokens of each request
  int prefix = 1024;                // tokens that prompts share in some of the tests
  int long_prompt = 4096;           // arrives among running answers
  int threads = 0;
  std::string kv_type = "f16";
  bool repack = true;
  bool json = false;
};

// Prints a line for each test; tests that the model's window is too short for are left out.
int serve_bench(const ServeBenchOptions& options);

}  // namespace mlxr::cli
