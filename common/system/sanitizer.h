/*
 * Is this a build with AddressSanitizer? Its leak check traces the process at exit, which neither a
 * system-call filter nor an undumpable process allows. Internal to common/system and its tests.
 */
#ifndef SOCKST_COMMON_SYSTEM_SANITIZER_H
#define SOCKST_COMMON_SYSTEM_SANITIZER_H

#if defined(__SANITIZE_ADDRESS__)
#define SOCKST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) ||                         \
    __has_feature(thread_sanitizer)
#define SOCKST_SANITIZED 1
#endif
#endif
#ifndef SOCKST_SANITIZED
#define SOCKST_SANITIZED 0
#endif

#endif
