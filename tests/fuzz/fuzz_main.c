/*
 * Replays corpora without libFuzzer: fuzz_NAME PATH… runs the harness over each file, or each file
 * of each directory, and over every truncation of it. Each input sits in a block of exactly its
 * size, so that AddressSanitizer sees the first octet read behind it.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX (1024 * 1024)
#define PREFIXES_MAX 4096 /* inputs longer than this are cut at PREFIXES_MAX places */

static size_t inputs;

static void run(const uint8_t *data, size_t size)
{
    uint8_t *block = malloc(size);
    if (size != 0 && block == NULL)
        abort();
    if (size != 0)
        memcpy(block, data, size);
    LLVMFuzzerTestOneInput(block, size);
    free(block);
}

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(INPUT_MAX);
    if (file == NULL || data == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        free(data);
        if (file != NULL)
            fclose(file);
        return 1;
    }
    size_t size = fread(data, 1, INPUT_MAX, file);
    size_t step = size / PREFIXES_MAX + 1;
    for (size_t length = 0; length < size; length += step)
        run(data, length);
    run(data, size);
    inputs++;
    free(data);
    fclose(file);
    return 0;
}

static int replay_directory(const char *path, DIR *directory)
{
    char file[4096];
    int failed = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        failed |= replay_file(file);
    }
    closedir(directory);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        failed |= directory != NULL ? replay_directory(argv[i], directory) : replay_file(argv[i]);
    }
    if (inputs == 0) {
        fprintf(stderr, "no input found: an empty corpus proves nothing\n");
        return 1;
    }
    printf("%zu inputs and their truncations\n", inputs);
    return failed;
}
