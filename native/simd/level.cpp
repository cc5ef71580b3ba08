#include "simd/level.hpp"

#include <array>
#include <atomic>
#include <cstdlib>

namespace seedbed::simd {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"scalar", "neon", "avx2", "avx512", "avx512vnni"};

Level detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && __builtin_cpu_supports("avx512vnni")) return Level::Avx512Vnni;
  if (avx512) return Level::Avx512;
  if (avx2) return Level::Avx2;
  return Level::Scalar;
#elif defined(__aarch64__)
  return Level::Neon;
#else
  return Level::Scalar;
#endif
}

bool parse(std::string_view text, Level* out) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == text) {
      *out = static_cast<Level>(i);
      return true;
    }
  return false;
}

// Neon and the x86 levels exclude each other; Scalar is below all.
bool available(Level wanted) {
  const Level have = supported();
  if (wanted == Level::Scalar || wanted == have) return true;
  return have != Level::Neon && wanted != Level::Neon && wanted < have;
}

std::atomic<Level>& current() {
  static std::atomic<Level> value = [] {
    Level wanted = supported();
    if (const char* text = std::getenv("SEEDBED_SIMD")) {
      Level asked;
      if (parse(text, &asked) && available(asked)) wanted = asked;
    }
    return wanted;
  }();
  return value;
}

}  // namespace

Level supported() {
  static const Level value = detect();
  return value;
}

bool has_bfloat16() {
#if defined(__x86_64__)
  static const bool value = supported() >= Level::Avx512Vnni && __builtin_cpu_supports("avx512bf16");
  return value;
#else
  return false;
#endif
}

Level level() { return current().load(std::memory_order_relaxed); }

bool set_level(const std::string& text) {
  Level wanted;
  if (!parse(text, &wanted) || !available(wanted)) return false;
  current().store(wanted);
  return true;
}

std::string_view name(Level value) { return kNames[static_cast<std::size_t>(value)]; }

}  // namespace seedbed::simd
