#include "malloc_count.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

static size_t calls;

size_t malloc_count(void)
{
    return calls;
}

#ifdef WITH_ASAN

/* As in sanitizer/allocator_interface.h, which not every compiler package brings. */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));

static void on_malloc(const volatile void *pointer, size_t size)
{
    (void)pointer;
    (void)size;
    calls++;
}

static void on_free(const volatile void *pointer)
{
    (void)pointer;
}

__attribute__((constructor)) static void install(void)
{
    __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}

#else

/* The program's own definitions take precedence over libc's, for libraries too. */
#include <stdlib.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *pointer, size_t size);

void *malloc(size_t size)
{
    calls++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    calls++;
    return __libc_calloc(count, size);
}

void *realloc(void *pointer, size_t size)
{
    calls++;
    return __libc_realloc(pointer, size);
}

#endif
