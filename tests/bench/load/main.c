#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/ptcl.h"
#include "tests/bench/load/load.h"

static const struct method {
    const char *name;
    int (*run)(const struct load_options *options);
    const char *help;
} methods[] = {
    {"one-core", load_one_core,
     "UDP as fast as processor 0 can send; what arrives is counted and dropped at the device\n"
     "    --client --client-device --relay --relay-device --target --target-device --from --to "
     "--at\n"
     "    [--plan gso|frames --hop MAC [--flows FILE]]"},
    {"udp", load_udp,
     "UDP between two sockets, on processors 0 and 1\n    --client --target --from --to --at"},
    {"tcp", load_tcp,
     "streams on processors 0 and 1\n"
     "    --client --target --from --to --at [--streams N] [--reverse]"},
    {"round-trip", load_round_trip,
     "UDP there and back, one at a time\n    --client --target --from --to --at --count [--spin]"},
    {"associations", load_associations,
     "opens TRANSPARENT associations and holds them until stdin ends\n"
     "    --client --server --ptcl --from --at --count"},
    {"closing", load_closing,
     "the time from the end of a control connection to the last packet of its relay\n"
     "    --client --server --target --target-device --from --at --count"},
    {"loss", load_loss,
     "sends to all relays of --flows until none carries a packet; says when it saw the last one\n"
     "    --client --client-device --target --target-device --hop --flows --at"},
};
#define METHODS (sizeof(methods) / sizeof(methods[0]))

enum kind { TEXT, COUNT, SECONDS, ENDPOINT, FLAG, HOP, PTCL };

#define MEMBER(member) offsetof(struct load_options, member)
static const struct known {
    const char *name;
    enum kind kind;
    size_t offset;
    double lowest, highest; /* COUNT, SECONDS */
} known[] = {
    {"client", TEXT, MEMBER(client), 0, 0},
    {"relay", TEXT, MEMBER(relay), 0, 0},
    {"target", TEXT, MEMBER(target), 0, 0},
    {"client-device", TEXT, MEMBER(client_device), 0, 0},
    {"relay-device", TEXT, MEMBER(relay_device), 0, 0},
    {"target-device", TEXT, MEMBER(target_device), 0, 0},
    {"flows", TEXT, MEMBER(flows), 0, 0},
    {"plan", TEXT, MEMBER(plan), 0, 0},
    {"hop", HOP, MEMBER(hop), 0, 0},
    {"from", ENDPOINT, MEMBER(from), 0, 0},
    {"at", ENDPOINT, MEMBER(at), 0, 0},
    {"server", ENDPOINT, MEMBER(server), 0, 0},
    {"to", ENDPOINT, MEMBER(to), 0, 0},
    {"ptcl", PTCL, MEMBER(ptcl), 0, 0},
    {"octets", COUNT, MEMBER(octets), 4, 1400},
    {"count", COUNT, MEMBER(count), 1, 10e6},
    {"streams", COUNT, MEMBER(streams), 1, LOAD_STREAMS_MAX},
    {"seconds", SECONDS, MEMBER(seconds), 0.01, 3600},
    {"warm", SECONDS, MEMBER(warm_seconds), 0, 60},
    {"reverse", FLAG, MEMBER(reverse), 0, 0},
    {"realtime", FLAG, MEMBER(realtime), 0, 0},
    {"spin", FLAG, MEMBER(spin), 0, 0},
};
#define KNOWN (sizeof(known) / sizeof(known[0]))

static double number(const struct known *option, const char *text)
{
    char *end;
    const double number = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || number < option->lowest || number > option->highest)
        die("--%s: %s is no number from %g to %g", option->name, text, option->lowest,
            option->highest);
    return number;
}

static void link_address(const struct known *option, const char *text, uint8_t out[6])
{
    char junk;

    if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx%c", &out[0], &out[1], &out[2], &out[3], &out[4],
               &out[5], &junk) != 6)
        die("--%s: no link-layer address: %s", option->name, text);
}

static struct endpoint endpoint(const struct known *option, const char *text)
{
    struct endpoint endpoint;

    if (endpoint_parse(text, &endpoint) < 0)
        die("--%s: no endpoint: %s", option->name, text);
    return endpoint;
}

static void take(struct load_options *out, const struct known *option, const char *value)
{
    char *member = (char *)out + option->offset;

    switch (option->kind) {
    case TEXT:
        *(const char **)member = value;
        break;
    case COUNT:
        *(unsigned *)member = (unsigned)number(option, value);
        break;
    case SECONDS:
        *(double *)member = number(option, value);
        break;
    case ENDPOINT:
        *(struct endpoint *)member = endpoint(option, value);
        break;
    case FLAG:
        *(bool *)member = true;
        break;
    case HOP:
        link_address(option, value, (uint8_t *)member);
        break;
    case PTCL:
        *(uint8_t *)member = strcmp(value, "tcp") == 0 ? PTCL_TCP : PTCL_UDP;
        break;
    }
}

/* "--name value" or, of a flag, "--name" at *argument; moves it on. */
static void take_next(struct load_options *out, char ***argument)
{
    const char *name = *(*argument)++;

    for (size_t i = 0; i < KNOWN; i++) {
        if (strncmp(name, "--", 2) != 0 || strcmp(name + 2, known[i].name) != 0)
            continue;
        if (known[i].kind != FLAG && **argument == NULL)
            die("%s wants a value", name);
        take(out, &known[i], known[i].kind == FLAG ? NULL : *(*argument)++);
        return;
    }
    die("no such option: %s", name);
}

static int usage(void)
{
    fputs(
        "usage: bench_load METHOD OPTION…\n"
        "  common: --seconds S --warm S --octets N --realtime\n"
        "  --server instead of --to: through TRANSPARENT associations that are opened there\n",
        stderr);
    for (size_t i = 0; i < METHODS; i++)
        fprintf(stderr, "  %s: %s\n", methods[i].name, methods[i].help);
    return 2;
}

int main(int argc, char **argv)
{
    struct load_options options = {.plan = "gso",
                                   .octets = 64,
                                   .count = 1,
                                   .streams = 1,
                                   .ptcl = PTCL_UDP,
                                   .seconds = 1,
                                   .warm_seconds = 0.3};

    if (argc < 2)
        return usage();
    for (char **argument = argv + 2; *argument != NULL;)
        take_next(&options, &argument);
    for (size_t i = 0; i < METHODS; i++) {
        if (strcmp(argv[1], methods[i].name) == 0)
            return methods[i].run(&options);
    }
    return usage();
}
