#if defined(__x86_64__)
#define SEEDBED_NAMESPACE avx2
#define SEEDBED_WIDTH 8
#define SEEDBED_TARGET __attribute__((target("avx2,fma")))
#include "decoder/kernels.inl"
#endif
