/*
 * The client's session against any server. The first octet says what is asked, the second in what
 * pieces the rest arrives. What must hold: the outcome does not depend on the pieces, an end is
 * final, and no octet behind it is taken.
 */
#include <string.h>

#include "common/client/sockst.h"
#include "tests/fuzz/fuzz.h"

static struct sockst_session *ask(uint8_t kind)
{
    static const struct n1_userpass alice = {
        .user_length = 5, .password_length = 2, .user = "alice", .password = "pw"};
    struct n1_request request = {.command = N1_CMD_TRANSPARENT, .ptcl = 6};
    struct sockst_ask question = {.methods = {1, {N1_METHOD_NONE}}};
    struct sockst_session *session = NULL;
    FUZZ_CHECK(n1_host_from_name("example.org", 80, &request.destination) == 0);
    FUZZ_CHECK(n1_host_from_name("source.example", 81, &request.source) == 0);
    if ((kind & 1) != 0)
        question.request = &request;
    if ((kind & 2) != 0) {
        question.methods = (struct n1_methods){3, {N1_METHOD_NONE, N1_METHOD_USERPASS, 1}};
        question.userpass = &alice;
    }
    FUZZ_CHECK(sockst_session_new(&session, &question) == 0);
    return session;
}

/* Returns how many octets were taken. */
static size_t converse(struct sockst_session *session, const uint8_t *data, size_t size,
                       size_t piece)
{
    size_t done = 0;
    while (done < size && sockst_session_status(session) == SOCKST_RUNNING) {
        const uint8_t *output;
        size_t taken = 0, count = size - done < piece ? size - done : piece;
        sockst_session_sent(session, sockst_session_output(session, &output));
        sockst_session_receive(session, data + done, count, &taken);
        FUZZ_CHECK(taken <= count);
        FUZZ_CHECK(taken == count || sockst_session_status(session) != SOCKST_RUNNING);
        done += taken;
    }
    return done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct sockst_session *pieces = ask(data[0]), *whole = ask(data[0]);
    size_t in_pieces = converse(pieces, data + 2, size - 2, 1U + data[1] % 16U);
    size_t at_once = converse(whole, data + 2, size - 2, size);
    enum sockst_status status = sockst_session_status(whole);
    FUZZ_CHECK(sockst_session_status(pieces) == status);
    FUZZ_CHECK(sockst_session_failure(pieces)->error == sockst_session_failure(whole)->error);
    FUZZ_CHECK(status == SOCKST_FAILED || in_pieces == at_once);
    FUZZ_CHECK(sockst_session_method(pieces) == sockst_session_method(whole));
    sockst_session_end(whole);
    FUZZ_CHECK(sockst_session_status(whole) ==
               (status == SOCKST_DONE ? SOCKST_DONE : SOCKST_FAILED));
    FUZZ_CHECK((sockst_session_failure(whole)->error == SOCKST_E_NONE) == (status == SOCKST_DONE));
    sockst_session_free(pieces);
    sockst_session_free(whole);
    return 0;
}
