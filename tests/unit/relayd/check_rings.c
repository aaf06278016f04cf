/*
 * What the program tells: every record once and in order, no more than a bounded number in a turn
 * of the loop, and losses.
 */
#include <bpf/bpf.h>
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "relayd/plane/bpf/rings.h"

/* A table of 1024 events at most: a record takes 8 octets more than its struct. */
#define RING_OCTETS 32768
#define RING_RECORDS (RING_OCTETS / (sizeof(struct bpf_event) + 8))

static uv_loop_t loop;
static struct rings *rings;
static int maps[3]; /* events, strangers, answers */
static volatile struct bpf_globals globals;
static struct {
    unsigned events, strangers, answers, events_lost, strangers_lost;
    uint32_t last_slot;
} told;
static bool close_at_first;

/* ---- the kernel's side ----------------------------------------------------------------------- */

#define INSTRUCTION(code_, dst, src, off_, imm_)                                                   \
    {                                                                                              \
        .code = (code_), .dst_reg = (dst), .src_reg = (src), .off = (off_), .imm = (imm_)          \
    }

/* A program that puts `octets` of the packet's own (from its 14th on) into the ring. */
static int writer_of(int map, int octets)
{
    const struct bpf_insn code[] = {
        /* bpf_skb_load_bytes(skb, 14, stack, octets) */
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, 14),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_10, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_3, 0, 0, -octets),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, octets),
        INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_skb_load_bytes),
        /* bpf_ringbuf_output(map, stack, octets, 0), whose result is returned */
        INSTRUCTION(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map),
        INSTRUCTION(0, 0, 0, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -octets),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, octets),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, 0),
        INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_ringbuf_output),
        INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    const int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "writer", "GPL", code,
                                 sizeof(code) / sizeof(code[0]), NULL);

    ck_assert_msg(fd >= 0, "bpf_prog_load: %s", strerror(-fd));
    return fd;
}

/* Returns what bpf_ringbuf_output() says: 0, or that it is full. */
static int write_record(int writer, const void *record, size_t size)
{
    uint8_t packet[14 + 512] = {0};
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet, .data_size_in = sizeof(packet));

    memcpy(packet + 14, record, size);
    ck_assert_int_eq(bpf_prog_test_run_opts(writer, &run), 0);
    return (int)run.retval;
}

static int write_event(int writer, uint32_t slot)
{
    const struct bpf_event event = {.slot = slot, .generation = 1, .end = BPF_TARGET, .seen = 2};

    return write_record(writer, &event, sizeof(event));
}

/* ---- our side -------------------------------------------------------------------------------- */

static void on_event(void *user, const struct bpf_event *event)
{
    ck_assert_ptr_eq(user, &told);
    ck_assert_uint_eq(event->end, BPF_TARGET);
    ck_assert_msg(told.events == 0 || event->slot == told.last_slot + 1, "%u after %u", event->slot,
                  told.last_slot);
    told.last_slot = event->slot;
    told.events++;
    if (close_at_first)
        rings_close(rings);
}

static void on_events_lost(void *user)
{
    (void)user;
    told.events_lost++;
}

static void on_stranger(void *user, const struct bpf_stranger_event *event)
{
    (void)user;
    ck_assert_uint_eq(event->row, 7);
    told.strangers++;
}

static void on_strangers_lost(void *user)
{
    (void)user;
    told.strangers_lost++;
}

static void on_answer(void *user, const struct bpf_answer *answer)
{
    (void)user;
    ck_assert_uint_eq(answer->kind, BPF_ANSWER_RESET);
    ck_assert_uint_eq(answer->head[BPF_ANSWER_HEAD - 1], 0x5a);
    told.answers++;
}

static void setup(void)
{
    const struct program_ops ops = {.event = on_event,
                                    .events_lost = on_events_lost,
                                    .stranger = on_stranger,
                                    .strangers_lost = on_strangers_lost,
                                    .answer = on_answer};

    memset(&told, 0, sizeof(told));
    memset((void *)(uintptr_t)&globals, 0, sizeof(globals));
    close_at_first = false;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    for (size_t i = 0; i < 3; i++) {
        maps[i] = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, RING_OCTETS, NULL);
        ck_assert_int_ge(maps[i], 0);
    }
    const struct rings_config config = {.events = maps[0],
                                        .strangers = maps[1],
                                        .answers = maps[2],
                                        .globals = &globals,
                                        .ops = &ops,
                                        .user = &told};
    ck_assert_int_eq(rings_open(&rings, &loop, &config), 0);
}

static void teardown(void)
{
    rings_close(rings);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    for (size_t i = 0; i < 3; i++)
        close(maps[i]);
}

/* The handles do not keep the loop alive: something has to. */
static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void turns(unsigned count)
{
    static uv_timer_t timer;

    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 10000, 0);
    for (unsigned i = 0; i < count; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void turn_until(const unsigned *count, unsigned value)
{
    const uint64_t end = uv_hrtime() + 10000000000u;

    while (*count < value) {
        ck_assert_msg(uv_hrtime() < end, "%u of %u", *count, value);
        turns(1);
    }
}

START_TEST(each_ring_has_its_records)
{
    const struct bpf_stranger_event stranger = {.row = 7};
    struct bpf_answer answer = {.kind = BPF_ANSWER_RESET};
    const int writers[] = {writer_of(maps[0], sizeof(struct bpf_event)),
                           writer_of(maps[1], sizeof(stranger)),
                           writer_of(maps[2], sizeof(answer))};

    answer.head[BPF_ANSWER_HEAD - 1] = 0x5a;
    ck_assert_int_eq(write_event(writers[0], 1), 0);
    ck_assert_int_eq(write_event(writers[0], 2), 0);
    ck_assert_int_eq(write_record(writers[1], &stranger, sizeof(stranger)), 0);
    ck_assert_int_eq(write_record(writers[2], &answer, sizeof(answer)), 0);
    turn_until(&told.events, 2);
    turn_until(&told.strangers, 1);
    turn_until(&told.answers, 1);
    ck_assert_uint_eq(told.events_lost + told.strangers_lost, 0);
    /* And later ones. */
    ck_assert_int_eq(write_event(writers[0], 3), 0);
    turn_until(&told.events, 3);
    turns(3);
    ck_assert_uint_eq(told.events, 3);
}
END_TEST

START_TEST(a_turn_takes_a_bounded_number)
{
    const int writer = writer_of(maps[0], sizeof(struct bpf_event));
    uint32_t slot = 0;

    while (write_event(writer, slot + 1) == 0)
        slot++;
    ck_assert_uint_gt(slot, 2 * RINGS_RECORDS_PER_TURN);
    ck_assert_uint_le(slot, RING_RECORDS);
    turns(0); /* one turn, to close its timer */
    ck_assert_uint_eq(told.events, RINGS_RECORDS_PER_TURN);
    turn_until(&told.events, slot);
    ck_assert_uint_eq(told.last_slot, slot);
}
END_TEST

START_TEST(losses_are_told_once)
{
    const int writer = writer_of(maps[0], sizeof(struct bpf_event));

    globals.events_lost = 3;
    globals.strangers_lost = 1;
    ck_assert_int_eq(write_event(writer, 1), 0);
    turn_until(&told.events_lost, 1);
    turn_until(&told.strangers_lost, 1);
    ck_assert_int_eq(write_event(writer, 2), 0);
    turn_until(&told.events, 2);
    ck_assert_uint_eq(told.events_lost, 1);
    globals.events_lost++;
    ck_assert_int_eq(write_event(writer, 3), 0);
    turn_until(&told.events_lost, 2);
    ck_assert_uint_eq(told.strangers_lost, 1);
}
END_TEST

/* The program counts after it has failed: perhaps when the ring was read already. */
START_TEST(a_loss_that_is_counted_late_is_told)
{
    const int writer = writer_of(maps[0], sizeof(struct bpf_event));

    ck_assert_int_eq(write_event(writer, 1), 0);
    turn_until(&told.events, 1);
    ck_assert_uint_eq(told.events_lost, 0);
    globals.events_lost = 1;
    turn_until(&told.events_lost, 1);
}
END_TEST

/* A struct of another version, cut short. */
START_TEST(short_records_are_left_out)
{
    const struct bpf_stranger_event stranger = {.row = 7};
    const int wrong = writer_of(maps[0], sizeof(struct bpf_event) - 8);
    const int answer = writer_of(maps[2], 16);
    const int right = writer_of(maps[1], sizeof(stranger));
    const uint8_t octets[16] = {0};

    ck_assert_int_eq(write_record(wrong, octets, 8), 0);
    ck_assert_int_eq(write_record(answer, octets, 16), 0);
    ck_assert_int_eq(write_record(right, &stranger, sizeof(stranger)), 0);
    turn_until(&told.strangers, 1);
    turns(3);
    ck_assert_uint_eq(told.events + told.answers, 0);
}
END_TEST

START_TEST(a_record_may_close_the_rings)
{
    const int writer = writer_of(maps[0], sizeof(struct bpf_event));

    close_at_first = true;
    for (uint32_t slot = 1; slot <= 3; slot++)
        ck_assert_int_eq(write_event(writer, slot), 0);
    turn_until(&told.events, 1);
    turns(3);
    ck_assert_uint_eq(told.events, 1);
    rings = NULL;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rings");
    TCase *tcase = tcase_create("rings");

    if (geteuid() != 0) {
        fprintf(stderr, "skipped: needs root\n");
        return 77;
    }
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, each_ring_has_its_records);
    tcase_add_test(tcase, a_turn_takes_a_bounded_number);
    tcase_add_test(tcase, losses_are_told_once);
    tcase_add_test(tcase, a_loss_that_is_counted_late_is_told);
    tcase_add_test(tcase, short_records_are_left_out);
    tcase_add_test(tcase, a_record_may_close_the_rings);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
