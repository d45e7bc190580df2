/* Named crash points: every commit, rename, mkdir, fork, exec and result write on the path of a file is one. A test sets
 * SIMBDP_CRASH_AT=<name> and SIMBDP_CRASH_ONCE=<file> for a platform program; the first process that reaches the point
 * creates the file and kills itself with SIGKILL, exactly as a power cut of that process would. Tenants' processes never
 * see these variables, since their environment is an allow-list. */
#ifndef SIMBDP_BASE_CRASH_H
#define SIMBDP_BASE_CRASH_H

#define CRASH_POINTS(X)                                                                                                            \
    X(intake_row_commit)                                                                                                           \
    X(intake_mkdir)                                                                                                                \
    X(intake_rename)                                                                                                               \
    X(intake_copy)                                                                                                                 \
    X(intake_own)                                                                                                                  \
    X(inspect_commit)                                                                                                              \
    X(release_commit)                                                                                                              \
    X(check_commit)                                                                                                                \
    X(group_link)                                                                                                                  \
    X(moving_held)                                                                                                                 \
    X(moving_arrived)                                                                                                              \
    X(moving_rows)                                                                                                                 \
    X(moving_taken_up)                                                                                                             \
    X(move_begin)                                                                                                                  \
    X(move_ahead)                                                                                                                  \
    X(move_spooled)                                                                                                                \
    X(move_entry)                                                                                                                  \
    X(move_laid)                                                                                                                   \
    X(move_configured)                                                                                                             \
    X(move_map)                                                                                                                    \
    X(move_held)                                                                                                                   \
    X(move_copied)                                                                                                                 \
    X(move_switch)                                                                                                                 \
    X(move_gone)                                                                                                                   \
    X(move_taken_up)                                                                                                               \
    X(purge_mark)                                                                                                                  \
    X(purge_files)                                                                                                                 \
    X(purge_rows)                                                                                                                  \
    X(purge_conf)                                                                                                                  \
    X(dispatch_commit)                                                                                                             \
    X(uids_begin)                                                                                                                  \
    X(spawn_send)                                                                                                                  \
    X(spawn_fork)                                                                                                                  \
    X(run_claim_mkdir)                                                                                                             \
    X(run_files)                                                                                                                   \
    X(run_fork)                                                                                                                    \
    X(run_exec)                                                                                                                    \
    X(run_exit_seen)                                                                                                               \
    X(run_output_rename)                                                                                                           \
    X(run_result_write)                                                                                                            \
    X(run_result_rename)                                                                                                           \
    X(run_told)                                                                                                                    \
    X(result_read)                                                                                                                 \
    X(load_step_commit)                                                                                                            \
    X(load_delete)                                                                                                                 \
    X(load_insert)                                                                                                                 \
    X(load_checkpoint)                                                                                                             \
    X(load_result)                                                                                                                 \
    X(verdict_commit)                                                                                                              \
    X(archive_mkdir)                                                                                                               \
    X(archive_rename)                                                                                                              \
    X(archive_commit)                                                                                                              \
    X(work_remove)                                                                                                                 \
    X(run_ack)                                                                                                                     \
    X(retry_rename)                                                                                                                \
    X(across_copy)                                                                                                                 \
    X(across_rename)                                                                                                               \
    X(retry_commit)                                                                                                                \
    X(upload_commit)                                                                                                               \
    X(hand_in_commit)                                                                                                              \
    X(delete_files)                                                                                                                \
    X(report_write)                                                                                                                \
    X(store_segment)                                                                                                               \
    X(store_named)                                                                                                                 \
    X(store_write)                                                                                                                 \
    X(store_sync)                                                                                                                  \
    X(store_give_back)                                                                                                             \
    X(drain_stored)                                                                                                                \
    X(drain_acked)                                                                                                                 \
    X(job_spec)                                                                                                                    \
    X(job_submitted)                                                                                                               \
    X(pilot_file)                                                                                                                  \
    X(pilot_given)                                                                                                                 \
    X(job_id)                                                                                                                      \
    X(ask_commit)                                                                                                                  \
    X(instance_begin)                                                                                                              \
    X(instance_drain)                                                                                                              \
    X(instance_end_seen)                                                                                                           \
    X(instance_end_noted)                                                                                                          \
    X(image_copied)                                                                                                                \
    X(image_unpacked)                                                                                                              \
    X(image_rename)                                                                                                                \
    X(app_unpacked)                                                                                                                \
    X(app_copied)                                                                                                                  \
    X(app_rename)                                                                                                                  \
    X(app_activate)                                                                                                                \
    X(gone_unlinked)                                                                                                               \
    X(gone_renamed)                                                                                                                \
    X(order_done)                                                                                                                  \
    X(gateway_spooled)                                                                                                             \
    X(gateway_synced)                                                                                                              \
    X(gateway_handed_in)                                                                                                           \
    X(gateway_answered)                                                                                                            \
    X(move_streams)                                                                                                                \
    X(moving_still)                                                                                                                \
    X(moving_part)                                                                                                                 \
    X(moving_loaded)                                                                                                               \
    X(moving_settled)                                                                                                              \
    X(moving_book)                                                                                                                 \
    X(backup_piece)                                                                                                                \
    X(backup_sync)                                                                                                                 \
    X(backup_point)                                                                                                                \
    X(backup_done)                                                                                                                 \
    X(backup_drop)                                                                                                                 \
    X(backup_sweep)                                                                                                                \
    X(restore_begin)                                                                                                               \
    X(restore_entry)                                                                                                               \
    X(restore_done)                                                                                                                \
    X(mongo_dump_begin)                                                                                                            \
    X(mongo_dump_written)                                                                                                          \
    X(mongo_dump_file)                                                                                                             \
    X(mongo_dump_done)                                                                                                             \
    X(mongo_restore_create)                                                                                                        \
    X(mongo_restore_insert)                                                                                                        \
    X(mongo_restore_delete)                                                                                                        \
    X(mongo_restore_index)

enum crash_point {
#define X(name) CRASH_##name,
    CRASH_POINTS(X)
#undef X
        CRASH_N_POINTS
};

/* Reads the environment, once, at program start. */
void crash_init(void);
/* Async-signal-safe. Costs a compare when no crash is ordered. */
void crash_at(enum crash_point point);
/* The file that is then made; NULL: no crash is ordered. */
const char *crash_file(void);

#endif
