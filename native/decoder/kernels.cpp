#include "decoder/kernels.hpp"

#define SEEDBED_NAMESPACE scalar
#define SEEDBED_WIDTH 4
#define SEEDBED_TARGET
#include "decoder/kernels.inl"

namespace seedbed::decoder {

const Kernels& kernels(simd::Level level) {
#if defined(__x86_64__)
  if (level >= simd::Level::Avx512) return avx512::kKernels;
  if (level >= simd::Level::Avx2) return avx2::kKernels;
#endif
  static_cast<void>(level);
  return scalar::kKernels;
}

}  // namespace seedbed::decoder
