/* replay.c - runs the fuzzer on files and on the files in directories, without
 * libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replayed;

static void replay(const char *path)
{
    static uint8_t bytes[1 << 16];
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    /* For the report of a sanitizer. */
    fprintf(stderr, "%s\n", path);
    /* Memory of the exact size, for the sanitizers. */
    uint8_t *copy = malloc(length + (length == 0));
    for (size_t i = 0; i < length; i++)
        copy[i] = bytes[i];
    alarm(20);
    (void)LLVMFuzzerTestOneInput(copy, length);
    alarm(0);
    free(copy);
    replayed++;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        if (directory == NULL) {
            replay(argv[i]);
            continue;
        }
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
            if (entry->d_name[0] != '.')
                replay(path);
        }
        closedir(directory);
    }
    printf("%d inputs replayed\n", replayed);
    return replayed == 0;
}
