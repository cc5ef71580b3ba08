#pragma once
#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace seedbed::index {

// Runs work(worker, i) for i in [0, count) on `threads` threads; the first exception stops the rest and is thrown here.
template <class Work>
void parallel_for(std::size_t count, std::size_t threads, const Work& work) {
  threads = std::min(threads, count);
  if (threads <= 1) {
    for (std::size_t i = 0; i < count; ++i) work(std::size_t{0}, i);
    return;
  }
  std::atomic<std::size_t> next = 0;
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto run = [&](std::size_t worker) {
    try {
      for (std::size_t i; (i = next.fetch_add(1)) < count;) work(worker, i);
    } catch (...) {
      next.store(count);
      const std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  pool.reserve(threads);
  try {
    for (std::size_t worker = 1; worker < threads; ++worker) pool.emplace_back(run, worker);
  } catch (const std::system_error&) {
    // The system gives no more threads; those that started share the work.
  }
  run(0);
  for (std::thread& one : pool) one.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace seedbed::index
