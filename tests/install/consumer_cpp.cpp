// consumer_cpp.cpp: the headers and the library from C++.
#include <cstdio>

#include <mmfuse/mmfuse.h>

int main()
{
    mmf_ctx *ctx = nullptr;
    if (mmf_ctx_create(&ctx, nullptr) != MMF_OK)
        return 1;
    const bool right = mmf_ctx_threads(ctx) > 0;
    mmf_ctx_free(ctx);
    std::puts(mmf_version());
    return right ? 0 : 1;
}
