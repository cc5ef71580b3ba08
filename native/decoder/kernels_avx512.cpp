#if defined(__x86_64__)
#define SEEDBED_NAMESPACE avx512
#define SEEDBED_WIDTH 16
#define SEEDBED_TARGET __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#include "decoder/kernels.inl"
#endif
