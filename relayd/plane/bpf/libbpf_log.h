/*
 * What libbpf has to say goes to our log (level debug, event "libbpf", one for each line), and not
 * to standard error. What an operator has to know is logged by those who call libbpf.
 */
#ifndef SOCKST_RELAYD_BPF_LIBBPF_LOG_H
#define SOCKST_RELAYD_BPF_LIBBPF_LOG_H

void libbpf_log_setup(void); /* idempotent */

#endif
