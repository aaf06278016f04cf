/*
 * make_corpus DIRECTORY: writes the seed corpora of N2 and of the admin protocol into DIRECTORY/n2
 * and DIRECTORY/admin: the largest valid message of every type from the encoders, and some that are
 * broken. DIRECTORY/answer: packets that the BPF plane may have to answer. The result is committed;
 * run it again when the messages change.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>

#include "proto/frame.h"
#include "tests/harness/craft.h"
#include "tests/unit/proto/raw.h"
#include "tests/unit/proto/samples.h"

static const char *directory;

static void write_file(const char *corpus, const char *name, const uint8_t *data, size_t length)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s/%s", directory, corpus, name);
    FILE *file = fopen(path, "wb");

    if (!file || (length > 0 && fwrite(data, 1, length, file) != length) || fclose(file) != 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
}

static void write_payload(const char *corpus, const char *name, const uint8_t *frame, size_t length)
{
    if (length <= FRAME_HEADER) {
        fprintf(stderr, "%s/%s: not encoded\n", corpus, name);
        exit(1);
    }
    write_file(corpus, name, frame + FRAME_HEADER, length - FRAME_HEADER);
}

static void write_valid(void)
{
    static const char *const requests[] = {[ADMIN_STATUS] = "request_status",
                                           [ADMIN_RELAYS] = "request_relays",
                                           [ADMIN_SHOW] = "request_show",
                                           [ADMIN_CLOSE] = "request_close"};
    static const char *const answers[] = {[ADMIN_ANSWER_STATUS] = "answer_status",
                                          [ADMIN_ANSWER_RELAY] = "answer_relay",
                                          [ADMIN_ANSWER_END] = "answer_end",
                                          [ADMIN_ANSWER_ERROR] = "answer_error"};
    static uint8_t frame[FRAME_MAX];
    static struct n2_message message;
    static struct admin_request request;
    static struct admin_answer answer;

    for (int i = 1; i < N2_TYPE_END; i++) {
        sample_n2((enum n2_type)i, &message);
        write_payload("n2", n2_type_name((enum n2_type)i), frame,
                      n2_encode(&message, frame, sizeof(frame)));
    }
    for (int i = ADMIN_STATUS; i < ADMIN_REQUEST_END; i++) {
        sample_admin_request((enum admin_request_type)i, &request);
        write_payload("admin", requests[i], frame,
                      admin_request_encode(&request, frame, sizeof(frame)));
    }
    for (int i = ADMIN_ANSWER_STATUS; i <= ADMIN_ANSWER_ERROR; i++) {
        sample_admin_answer((enum admin_answer_type)i, &answer);
        write_payload("admin", answers[i], frame,
                      admin_answer_encode(&answer, frame, sizeof(frame)));
    }
}

static struct raw body, message;

/* Writes what `body` holds as the body with that field number. */
static void write_body(const char *corpus, const char *name, uint32_t number)
{
    message.length = 0;
    raw_bytes(&message, number, body.data, body.length);
    write_file(corpus, name, message.data, message.length);
    body.length = 0;
}

static void write_repeated(const char *corpus, const char *name, uint32_t wrap, uint32_t field)
{
    while (body.length < 2048)
        raw_bytes(&body, field, NULL, 0);
    write_body(corpus, name, wrap);
}

static void write_broken(void)
{
    static const uint8_t frames[] = {0, 0, 0, 2, 0xca, 0x01, 0, 0, 0, 1, 0, 0, 1, 0, 1};

    write_file("n2", "bad_frames", frames, sizeof(frames));
    write_file("n2", "bad_empty", NULL, 0);
    write_file("n2", "bad_group", (const uint8_t *)"\x5b\x5c", 2);
    write_file("n2", "bad_varint", (const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10);
    write_body("n2", "bad_hello_empty", 11);
    write_body("n2", "bad_type", 28);
    raw_number(&body, 1, 1);
    raw_number(&body, 2, 99);
    write_body("n2", "bad_enumeration", 22);
    raw_number(&body, 1, 1);
    raw_bytes(&body, 2, "12345", 5);
    write_body("n2", "bad_endpoint", 17);
    raw_number(&body, 1, 1);
    raw_number(&body, 2, 1);
    raw_bytes(&body, 3, "a\0b", 3);
    write_body("n2", "bad_text", 15);
    raw_number(&body, 1, 7);
    raw_bytes(&body, 300, "unknown", 7);
    write_body("n2", "unknown_field", 25);
    write_repeated("n2", "bad_destinations", 13, 6);
    write_repeated("n2", "bad_limits", 13, 11);
    write_repeated("n2", "bad_unknown_fields", 13, 77);
    write_repeated("admin", "bad_counters", 11, 8);
    write_repeated("admin", "bad_warnings", 11, 9);
    write_body("admin", "bad_relay_empty", 12);
    write_body("admin", "bad_type", 15);
    raw_number(&body, 1, 1);
    raw_number(&body, 2, ADMIN_SHOW);
    write_file("admin", "bad_show_without_relay", body.data, body.length);
    body.length = 0;
    raw_bytes(&body, 1, "\x1b[31m", 5);
    write_body("admin", "bad_error_text", 14);
    write_file("admin", "bad_empty", NULL, 0);
}

/* As fuzz_answer.c reads it: kind, interface, MTU, payload, packet. */
static void write_answer(const char *name, uint8_t kind, const struct craft *packet)
{
    static uint8_t input[13 + CRAFT_MAX] = {[4] = 2, [7] = 5, [12] = 200};

    input[0] = kind;
    const size_t length = craft_build(packet, input + 13, CRAFT_MAX);
    write_file("answer", name, input, 13 + (length < 128 ? length : 128));
}

static void write_answers(void)
{
    static const char *const kinds[] = {NULL, "expired", "big", "reset"};
    static const uint8_t options[14] = {1, 12};
    char name[64];

    for (unsigned i = 0; i < 12; i++) {
        const bool v6 = i % 2 == 1, tcp = i % 4 >= 2;
        struct craft packet = {.protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP,
                               .tcp_flags = i < 8 ? CRAFT_ACK : CRAFT_SYN,
                               .length = 200,
                               .ttl = 1};
        const uint8_t kind = (uint8_t)(i / 4 + 1);
        endpoint_parse(v6 ? "[fd77:1::2]:40000" : "10.77.1.2:40000", &packet.source);
        endpoint_parse(v6 ? "[fd77:1::1]:20001" : "10.77.1.1:20001", &packet.destination);
        snprintf(name, sizeof(name), "%s_%s_%s", kinds[kind], v6 ? "v6" : "v4",
                 tcp ? "tcp" : "udp");
        write_answer(name, kind, &packet);
        packet.options = options;
        packet.options_length = sizeof(options);
        packet.extensions[0] = (struct craft_extension){IPPROTO_HOPOPTS, options, sizeof(options)};
        packet.extensions[1] = (struct craft_extension){IPPROTO_FRAGMENT, "\0\1\0\0\0\1", 6};
        snprintf(name, sizeof(name), "options_%s_%s_%s", kinds[kind], v6 ? "v6" : "v4",
                 tcp ? "tcp" : "udp");
        write_answer(name, kind, &packet);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_corpus DIRECTORY\n");
        return 64;
    }
    directory = argv[1];
    write_valid();
    write_broken();
    write_answers();
    return 0;
}
