// The coroutine type of the server. Wire formats include this and never Beast.
#pragma once

#include <utility>  // Boost 1.74's awaitable.hpp uses std::exchange without it

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

namespace mlxr {

namespace asio = boost::asio;

template <typename T>
using Task = asio::awaitable<T>;

}  // namespace mlxr
