"""Every key of the configuration, and the test that shows it at work: a key without one fails here, and so does a test that is no more."""
import re

from harness import ROOT

FILES, LOAD, RUNS = "tests/fault/test_files.py", "tests/fault/test_load.py", "tests/fault/test_runs.py"
CLI, LIMITS, START = "tests/system/test_cli.py", "tests/system/test_limits.py", "tests/system/test_start.py"
STREAMS, PEERS, MANAGED = "tests/fault/test_streams.py", "tests/fault/test_stream_peers.py", "tests/system/test_streammgr.py"
SUBSCRIPTIONS, APP_START, OUTPUTS = "tests/fault/test_subscriptions.py", "tests/system/test_app_start.py", "tests/fault/test_outputs.py"
MONITOR, CONTROLLER = "tests/system/test_monitor.py", "tests/unit/test_scaling_law.c"
ALERTS = "tests/system/test_alerts.py"
PILOTS = "tests/system/test_pilots.py"
SLURM = "tests/system/test_slurm.py"
FIGURES = "tests/system/test_figures.py"
IMAGE = "tests/attack/test_image.py"
APPSTORE = "tests/system/test_appstore.py"
OWN = "tests/system/test_own_configuration.py"
WIRE = "tests/system/test_gateway_wire.py"
WALLS = "tests/attack/test_walls.py"
CHECKER = "tests/system/test_checker.py"
TRIGGERS, RETENTION = "tests/system/test_triggers.py", "tests/system/test_retention.py"
S06, CUT_OFF = PEERS + "::test_s06_limits_are_refused_by_name_and_recorded", PEERS + "::test_s06_after_too_many_breaches_a_stream_is_cut_off"
INTAKE = "tests/attack/test_intake.py"
INSIDE_OUTSIDE = FILES + "::test_f10_each_limit_just_inside_and_just_outside"
RLIMITS = LIMITS + "::test_rlimits_are_what_the_profile_says"
R04 = RUNS + "::test_r04_each_limit_holds_and_is_named"
CSV, COLUMNS = LOAD + "::test_every_csv_key", LOAD + "::test_f05_columns_rules_and_nesting"
UNIQUE = LOAD + "::test_unique_columns_and_a_collection_that_cannot_have_them"

TABLE = {
    "platform.mongo_url": LIMITS + "::test_mongo_url_of_platform_and_tenant",
    "platform.valid_formats": FILES + "::test_f10_formats",
    "platform.capacity.cpus": CLI + "::test_concurrency_and_capacity_bite",
    "platform.capacity.memory_bytes": LIMITS + "::test_memory_of_the_capacity_is_shared_out",
    "platform.stream_pct": LIMITS + "::test_stream_pct_is_kept_free",
    "platform.uid_base": LIMITS + "::test_uid_base_is_where_uids_begin",
    "platform.writer_wait_s": FILES + "::test_f01_a_writer_that_got_in_is_waited_for_then_refused",
    "platform.rescan_ms": LIMITS + "::test_rescan_finds_what_inotify_cannot_tell",
    "platform.inspector_memory_bytes": INTAKE + "::test_inspector_memory_bytes_bites",
    "platform.min_free_inodes": "tests/fault/test_bad_disk.py::test_no_inode_left",
    "platform.min_free_bytes": FILES + "::test_f13_a_full_disk_pauses_intake_and_loses_nothing",
    "platform.allow_missing_limits": START + "::test_no_cgroups_is_named_and_refused_unless_allowed",
    "platform.allow_shared_credentials": START + "::test_a_url_that_may_not_make_users_is_refused_unless_shared",
    "platform.metrics.textfile": FIGURES + "::test_a_file_for_the_textfile_collector",
    "platform.metrics.interval_s": FIGURES + "::test_a_file_for_the_textfile_collector",
    "platform.ports.gateway": WIRE + "::test_its_port",
    "platform.http.listen": WIRE + "::test_without_an_address_there_is_no_gateway",
    "platform.http.tls": WIRE + "::test_plain_http_is_for_this_host_alone",
    "platform.http.certificate": WIRE + "::test_a_certificate_of_ones_own",
    "platform.http.key": WIRE + "::test_a_certificate_of_ones_own",
    "platform.http.connections": WIRE + "::test_connections",
    "platform.http.connections_per_address": WIRE + "::test_connections_of_an_address",
    "platform.http.idle_s": WIRE + "::test_a_header_that_does_not_end",
    "platform.http.min_bytes_per_s": WIRE + "::test_a_body_in_drops",
    "platform.http.requests_per_s": WIRE + "::test_requests_of_an_account",
    "platform.http.event_streams": "tests/system/test_gateway_events.py::test_streams_of_an_account_and_in_all",
    "platform.http.event_streams_per_account": "tests/system/test_gateway_events.py::test_streams_of_an_account_and_in_all",
    "platform.http.fronts": "tests/system/test_cells.py::test_whose_a_request_is_the_front_says",
    "platform.http.uploads": WIRE + "::test_uploads_in_flight",
    "platform.launcher": SLURM + "::test_a_file_is_ingested_by_a_job",
    "profiles.launcher": SLURM + "::test_profiles_with_a_launcher_each",
    "platform.slurm.capacity.cpus": SLURM + "::test_what_of_the_cluster_is_ours",
    "platform.slurm.capacity.memory_bytes": SLURM + "::test_what_of_the_cluster_is_ours",
    "platform.slurm.shards.count": SLURM + "::test_tenants_are_on_shards_of_their_own",
    "platform.slurm.shards.each": SLURM + "::test_a_tenant_has_no_more_of_the_cluster_than_its_shards_are",
    "platform.slurm.shards.feature": SLURM + "::test_tenants_are_on_shards_of_their_own",
    "platform.slurm.listen": PILOTS + "::test_short_files_go_through_one_pilot",
    "platform.slurm.port": PILOTS + "::test_where_pilots_find_the_launcher",
    "profiles.slurm.pilot.nodes": PILOTS + "::test_as_many_runs_as_pilots_have_room_for",
    "profiles.slurm.pilot.cpus": PILOTS + "::test_as_many_runs_as_pilots_have_room_for",
    "profiles.slurm.pilot.memory_bytes": PILOTS + "::test_what_slurm_is_asked_for_a_pilot",
    "profiles.slurm.pilot.time_s": PILOTS + "::test_no_run_begins_that_a_pilot_has_no_time_for",
    "profiles.slurm.pilot.idle_s": PILOTS + "::test_short_files_go_through_one_pilot",
    "profiles.slurm.partition": SLURM + "::test_a_profile_says_what_slurm_is_asked_for",
    "profiles.slurm.account": SLURM + "::test_a_profile_says_what_slurm_is_asked_for",
    "profiles.slurm.qos": SLURM + "::test_a_profile_says_what_slurm_is_asked_for",
    "profiles.slurm.constraint": SLURM + "::test_a_profile_says_what_slurm_is_asked_for",
    "profiles.slurm.time_s": SLURM + "::test_a_profile_says_what_slurm_is_asked_for",
    "profiles.slurm.cpus": SLURM + "::test_a_profile_says_what_slurm_is_asked_for",
    "profiles.slurm.memory_bytes": SLURM + "::test_a_profile_says_what_slurm_is_asked_for",
    "profiles.name": LIMITS + "::test_an_app_runs_under_the_profile_it_names",
    "profiles.wall_s": RUNS + "::test_r08_a_hanging_tree_is_gone_after_the_timeout",
    "profiles.grace_s": RUNS + "::test_r02_ignoring_sigterm_ends_at_grace",
    "profiles.output_bytes": RUNS + "::test_r04_output_over_the_cap_never_passes_as_ok",
    "profiles.requests.cpus": CLI + "::test_concurrency_and_capacity_bite",
    "profiles.requests.memory_bytes": LIMITS + "::test_memory_of_the_capacity_is_shared_out",
    "profiles.rlimits.cpu_s": R04,
    "profiles.rlimits.as_bytes": RLIMITS,
    "profiles.rlimits.nofile": RLIMITS,
    "profiles.rlimits.nproc": LIMITS + "::test_nproc_bites",
    "profiles.rlimits.fsize_bytes": R04,
    "profiles.rlimits.core_bytes": RLIMITS,
    "profiles.rlimits.stack_bytes": LIMITS + "::test_a_stack_over_the_limit_is_a_crash",
    "profiles.cgroup.cpu_pct": LIMITS + "::test_cpu_pct_throttles",
    "profiles.cgroup.memory_bytes": R04,
    "profiles.cgroup.pids": R04,
    "profiles.isolation": WALLS + "::test_basic_is_what_it_was",
    "profiles.network": WALLS + "::test_network_of_a_profile",
    "profiles.tmp_bytes": WALLS + "::test_what_a_run_makes_in_shared_tables_is_its_own_and_goes_with_it",
    "profiles.tmp_inodes": WALLS + "::test_what_a_run_makes_in_shared_tables_is_its_own_and_goes_with_it",
    "profiles.scratch_bytes": WALLS + "::test_scratch_is_bounded",
    "profiles.scratch_inodes": WALLS + "::test_scratch_is_bounded",
    "profiles.scratch": WALLS + "::test_scratch_in_memory_is_full_at_once",
    "profiles.mounts": WALLS + "::test_hidden_executables_and_mounts_of_the_profile",
    "profiles.env.name": LIMITS + "::test_env_of_profile_and_app",
    "profiles.env.value": LIMITS + "::test_env_of_profile_and_app",
    "tenant.display_name": LIMITS + "::test_display_name_is_shown",
    "tenant.weight": CLI + "::test_weights_share_the_machine",
    "tenant.concurrency": CLI + "::test_concurrency_and_capacity_bite",
    "tenant.mongo_url": LIMITS + "::test_mongo_url_of_platform_and_tenant",
    "tenant.max_database_bytes": "tests/attack/test_mongo.py::test_a_tenant_fills_its_own_share_of_the_disk",
    "tenant.max_streams": "tests/system/test_gateway_streams.py::test_max_streams_is_how_many_there_may_be",
    "tenant.database": START + "::test_the_embedded_mongodb_keeps_tenants_apart",
    "tenant.limits.formats": FILES + "::test_f10_formats",
    "tenant.limits.max_file_bytes": INSIDE_OUTSIDE,
    "tenant.limits.max_decompressed_bytes": INSIDE_OUTSIDE,
    "tenant.limits.max_expansion": INTAKE + "::test_max_expansion_bites",
    "tenant.limits.max_inspect_s": INTAKE + "::test_max_inspect_s_bites_once",
    "tenant.limits.max_files_in_staging": FILES + "::test_f10_staging_cap",
    "tenant.limits.max_files_per_day": FILES + "::test_f10_daily_quotas_survive_a_restart",
    "tenant.limits.max_bytes_per_day": FILES + "::test_f10_daily_quotas_survive_a_restart",
    "tenant.limits.max_rows": INSIDE_OUTSIDE,
    "tenant.limits.max_row_bytes": INSIDE_OUTSIDE,
    "tenant.limits.max_columns": INSIDE_OUTSIDE,
    "tenant.limits.max_reject_pct": INSIDE_OUTSIDE,
    "tenant.limits.max_rejects": FILES + "::test_f06_too_many_rejects_are_refused_before_a_row_is_written",
    "tenant.retention.files_days": CLI + "::test_retention",
    "tenant.retention.documents_days": RETENTION + "::test_documents_days_deletes_what_was_loaded_and_nothing_else",
    "tenant.retention.logs_days": RETENTION + "::test_logs_days_removes_what_runs_left",
    "tenant.retention.on_success": CLI + "::test_retention",
    "tenant.retention.on_failure": CLI + "::test_retention",
    "tenant.datasets.name": TRIGGERS + "::test_only_files_of_one_dataset_share_a_run",
    "tenant.datasets.format": FILES + "::test_f10_a_file_of_another_format_than_its_datasets",
    "tenant.datasets.collection": LIMITS + "::test_rows_go_where_collection_says",
    "tenant.datasets.limits.formats": LIMITS + "::test_formats_of_a_dataset",
    "tenant.datasets.limits.max_file_bytes": INSIDE_OUTSIDE,
    "tenant.datasets.limits.max_decompressed_bytes": INSIDE_OUTSIDE,
    "tenant.datasets.limits.max_expansion": INTAKE + "::test_max_expansion_bites",
    "tenant.datasets.limits.max_inspect_s": INTAKE + "::test_max_inspect_s_bites_once",
    "tenant.datasets.limits.max_files_in_staging": RETENTION + "::test_limits_of_a_dataset_count_what_is_its_own_and_unfinished",
    "tenant.datasets.limits.max_files_per_day": RETENTION + "::test_limits_of_a_dataset_count_its_own_files",
    "tenant.datasets.limits.max_bytes_per_day": RETENTION + "::test_bytes_of_a_dataset_count_its_own_files",
    "tenant.datasets.limits.max_rows": INSIDE_OUTSIDE,
    "tenant.datasets.limits.max_row_bytes": INSIDE_OUTSIDE,
    "tenant.datasets.limits.max_columns": INSIDE_OUTSIDE,
    "tenant.datasets.limits.max_reject_pct": INSIDE_OUTSIDE,
    "tenant.datasets.limits.max_rejects": INSIDE_OUTSIDE,
    "tenant.datasets.key": LOAD + "::test_key_conflicts_are_rejected_kept_or_replaced",
    "tenant.datasets.shard.key": "tests/system/test_shard.py::test_a_collection_is_sharded_before_its_first_row",
    "tenant.datasets.shard.hashed": "tests/system/test_shard.py::test_rows_that_are_there_are_sharded_too",
    "tenant.datasets.on_key_conflict": LOAD + "::test_key_conflicts_are_rejected_kept_or_replaced",
    "tenant.datasets.csv.delimiter": CSV,
    "tenant.datasets.csv.quote": CSV,
    "tenant.datasets.csv.escape": CSV,
    "tenant.datasets.csv.encoding": CSV,
    "tenant.datasets.csv.line_end": CSV,
    "tenant.datasets.csv.skip_rows": CSV,
    "tenant.datasets.csv.header_rows": CSV,
    "tenant.datasets.csv.footer_rows": CSV,
    "tenant.datasets.csv.ragged": CSV,
    "tenant.datasets.csv.damaged": LOAD + "::test_damaged_rows_are_repaired_counted_and_listed",
    "tenant.datasets.csv.null": CSV,
    "tenant.datasets.columns.name": COLUMNS,
    "tenant.datasets.columns.type": COLUMNS,
    "tenant.datasets.columns.required": COLUMNS,
    "tenant.datasets.columns.regex": COLUMNS,
    "tenant.datasets.columns.min": COLUMNS,
    "tenant.datasets.columns.max": COLUMNS,
    "tenant.datasets.columns.enum": COLUMNS,
    "tenant.datasets.columns.unique": UNIQUE,
    "tenant.datasets.columns.max_age_days": COLUMNS,
    "tenant.datasets.columns.as": COLUMNS,
    "tenant.datasets.columns.value": COLUMNS,
    "tenant.datasets.inspect": LOAD + "::test_inspection_of_the_structure_only",
    "tenant.batch.app": CLI + "::test_a_named_app_takes_the_file",
    "tenant.batch.exec": RUNS + "::test_r01_what_cannot_be_executed_parks_the_app",
    "tenant.allow": OWN + "::test_only_what_is_allowed",
    "tenant.own_profiles": OWN + "::test_profiles_of_its_own_apps",
    "tenant.max_own_instances": OWN + "::test_what_is_refused",
    "tenant.max_app_bytes": APPSTORE + "::test_limits",
    "tenant.max_app_files": APPSTORE + "::test_limits",
    "tenant.max_app_versions": APPSTORE + "::test_versions_that_are_kept",
    "tenant.max_app_build_s": APPSTORE + "::test_an_installation_that_takes_too_long",
    "tenant.max_image_bytes": IMAGE + "::test_a_tree_without_end_and_bombs_are_bounded",
    "tenant.max_image_files": IMAGE + "::test_a_tree_without_end_and_bombs_are_bounded",
    "tenant.batch.image": IMAGE + "::test_a_run_has_the_image_as_its_root_and_changes_nothing_of_it",
    "tenant.stream_apps.image": IMAGE + "::test_two_managers_unpack_it_once_and_a_new_image_replaces_instances",
    "tenant.batch.args": LIMITS + "::test_args_reach_the_app",
    "tenant.batch.datasets": LIMITS + "::test_an_app_takes_its_datasets_only",
    "tenant.batch.pattern": FILES + "::test_f10_no_app_takes_it",
    "tenant.batch.profile": LIMITS + "::test_an_app_runs_under_the_profile_it_names",
    "tenant.batch.priority": CLI + "::test_priorities_within_a_tenant",
    "tenant.batch.output": OUTPUTS + "::test_output_dir_mode",
    "tenant.batch.checker": TRIGGERS + "::test_a_checker_sees_each_file_first",
    "tenant.batch.trigger": TRIGGERS + "::test_cron_runs_what_waits_at_the_minute",
    "tenant.batch.timezone": "tests/unit/test_cron.c::test_hours_that_are_left_out",
    "tenant.batch.group.max_files": TRIGGERS + "::test_a_group_is_one_run",
    "tenant.batch.group.max_wait_ms": TRIGGERS + "::test_a_group_does_not_wait_for_ever",
    "tenant.batch.env.name": LIMITS + "::test_env_of_profile_and_app",
    "tenant.batch.env.value": LIMITS + "::test_env_of_profile_and_app",
    "tenant.batch.secrets.name": TRIGGERS + "::test_secrets_are_files_of_the_run_alone",
    "tenant.batch.secrets.file": TRIGGERS + "::test_secrets_are_files_of_the_run_alone",
    "tenant.batch.retry.attempts": RUNS + "::test_r07_exit_codes",
    "tenant.batch.retry.backoff_ms": LIMITS + "::test_backoff_is_waited_for",
    "tenant.batch.retry.max_backoff_ms": "tests/unit/test_verdict.c::backoff_doubles_is_capped_and_jittered",
    "tenant.batch.retry.give_up_s": RUNS + "::test_r07_exit_codes",
    "platform.listen": PEERS + "::test_s07_curve_on_tcp",
    "platform.ports.broker": PEERS + "::test_a_fixed_tcp_port_that_is_taken_is_named",
    "tenant.curve_keys": PEERS + "::test_s07_curve_on_tcp",
    "tenant.streams.name": PEERS + "::test_s07_a_tenant_reaches_its_own_streams_only",
    "tenant.streams.max_message_bytes": S06,
    "tenant.streams.max_messages_per_s": S06,
    "tenant.streams.max_reject_pct": PEERS + "::test_max_reject_pct_cuts_a_stream_off",
    "tenant.streams.max_rows_per_s": PEERS + "::test_max_rows_per_s_is_what_an_app_gets_messages_for",
    "tenant.streams.burst_ms": PEERS + "::test_burst_ms_is_what_may_come_at_once",
    "tenant.streams.max_bytes_per_s": S06,
    "tenant.streams.max_messages_per_request": S06,
    "tenant.streams.max_stored_bytes": STREAMS + "::test_s03_at_its_byte_cap_a_stream_refuses_and_consumers_go_on",
    "tenant.streams.retention_s": SUBSCRIPTIONS + "::test_retention",
    "tenant.streams.dead_retention_s": SUBSCRIPTIONS + "::test_retention",
    "tenant.streams.dedup_window_s": SUBSCRIPTIONS + "::test_publishers_numbers_are_remembered_for_the_window_and_over_kills",
    "tenant.streams.lease_ms": STREAMS + "::test_s01_leases_end_are_extended_and_given_back",
    "tenant.streams.max_deliveries": STREAMS + "::test_s04_a_poison_message_dies_alone_and_can_be_replayed",
    "tenant.streams.on_breach": CUT_OFF,
    "tenant.streams.breaches": CUT_OFF,
    "tenant.streams.breach_window_s": "tests/unit/test_rate.c::breaches_count_within_their_window",
    "tenant.stream_apps.app": SUBSCRIPTIONS + "::test_each_app_has_its_own_copy_and_instances_compete",
    "tenant.stream_apps.stream": SUBSCRIPTIONS + "::test_each_app_has_its_own_copy_and_instances_compete",
    **dict.fromkeys((f"tenant.stream_apps.{key}" for key in "exec args output dataset profile env.name env.value secrets.name secrets.file".split()),
                    MANAGED + "::test_five_lines_of_shell_are_a_stream_app"),
    "tenant.stream_apps.delivery": APP_START + "::test_delivery_is_the_apps_to_choose",
    "tenant.stream_apps.checker": CHECKER + "::test_the_checker_of_a_stream_app",
    "tenant.stream_apps.checker_s": CHECKER + "::test_an_app_whose_checker_is_broken_waits_until_it_is_mended",
    "tenant.stream_apps.min_instances": MANAGED + "::test_on_demand_off_and_min_instances",
    "tenant.stream_apps.max_instances": MANAGED + "::test_on_demand_off_and_min_instances",
    "tenant.stream_apps.on_demand": MANAGED + "::test_on_demand_off_and_min_instances",
    "tenant.stream_apps.drain_s": MANAGED + "::test_s11_an_instance_that_hangs_is_replaced",
    "tenant.stream_apps.scale.utilisation": MONITOR + "::test_the_settings_of_an_app_bite",
    "tenant.stream_apps.scale.max_average_ingestion_ms": MONITOR + "::test_the_settings_of_an_app_bite",
    "tenant.stream_apps.scale.window_s": MONITOR + "::test_the_window_is_how_long_a_need_is_remembered",
    "tenant.stream_apps.scale.drain_target_s": CONTROLLER + "::test_each_setting_bites",
    "tenant.stream_apps.scale.min_processing_rate": CONTROLLER + "::test_rules_on_time_and_rate",
    "platform.ports.monitor": MONITOR + "::test_reports_from_elsewhere_show_a_key",
    **dict.fromkeys((f"platform.alerts.{key}" for key in "name when for_s command runbook_url".split()), MONITOR + "::test_alerts_are_logged_and_told"),
    **dict.fromkeys(("platform.alerts.webhook", "platform.alerts.group", "platform.webhooks.group_s"), ALERTS + "::test_alerts_of_a_group_are_one_call"),
    **dict.fromkeys((f"platform.webhooks.{key}" for key in "name url secret_file".split()), ALERTS + "::test_a_call_is_signed_and_repeated"),
    **dict.fromkeys(("platform.log", "platform.log_socket"), "tests/system/test_log.py::test_the_hosts_log_has_what_the_files_have"),
    **dict.fromkeys(("platform.otlp.url", "platform.otlp.traces"), "tests/system/test_otlp.py::test_a_file_is_a_trace"),
    **dict.fromkeys((f"platform.otlp.{key}" for key in "ca_file headers_file gzip".split()), "tests/system/test_otlp.py::test_who_it_is_and_what_it_is_shown"),
    **dict.fromkeys(("platform.otlp.metrics", "platform.otlp.interval_s"), "tests/system/test_otlp.py::test_figures_are_exported_as_metrics"),
    "platform.kafka.brokers": "tests/system/test_kafka.py::test_a_message_goes_there_and_comes_from_there",
    "platform.kafka.prefix": "tests/system/test_kafka.py::test_anothers_topic_is_refused",
    "platform.kafka.prefix_before": "tests/system/test_kafka.py::test_another_prefix_is_not_taken_by_itself",
    "platform.kafka.properties_file": "tests/system/test_kafka.py::test_settings_for_tls_and_sasl",
    "tenant.streams.store": "tests/system/test_kafka.py::test_a_stream_moves_there_and_back_while_it_works",
    "platform.kafka.member": "tests/fault/test_kafka_shared.py::test_two_with_one_name_do_not_fight",
    "platform.kafka.session_s": "tests/fault/test_kafka_shared.py::test_a_broker_stands_still_and_comes_back",
    "tenant.streams.shared": "tests/fault/test_kafka_shared.py::test_partitions_are_divided_and_each_message_is_one_brokers",
    "tenant.streams.partitions": "tests/system/test_partitions.py::test_more_partitions_and_never_fewer",
    "tenant.streams.replicas": "tests/system/test_kafka.py::test_there_have_to_be_as_many_nodes",
    "platform.otlp.logs": "tests/system/test_otlp.py::test_the_log_is_exported_with_the_runs_trace",
    "platform.webhooks.ca_file": ALERTS + "::test_a_receiver_shows_who_it_is",
    "platform.webhooks.alive_s": ALERTS + "::test_the_dead_mans_switch",
    **dict.fromkeys((f"platform.webhooks.{key}" for key in "timeout_s retry_s".split()), ALERTS + "::test_who_does_not_answer_holds_nothing_up"),
}

# In the file format, refused by this version with a message that says so, unless they have the value that means unused.
LATER = {"platform.ports.streammgr"}


def keys_of_the_program(home):
    """The keys that `mysimbdp check --keys` lists, dotted; groups are named by what is in them."""
    found, stack, root = [], [], ""
    for line in home.cli("check", "--keys").stdout.splitlines():
        if line.startswith("columns of"):
            break
        if line.startswith("conf/"):
            root, stack = "tenant." if "tenants" in line else "", []
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        stack = stack[:depth - 1] + [line.strip().split(":")[0]]
        found.append(root + ".".join(stack))
    return {k for k in found if not any(other.startswith(k + ".") for other in found)}


def test_every_key_has_its_test(home):
    keys = keys_of_the_program(home)
    assert keys == set(TABLE), f"without a test: {sorted(keys - set(TABLE))}; no key: {sorted(set(TABLE) - keys)}"


def test_every_key_is_explained(home):
    known = {k.removeprefix("tenant.") for k in TABLE}
    rows = {r["key"]: r for r in home.rows("explain")}
    assert {k for k, r in rows.items() if r["type"] not in ("group", "list")} == known
    assert {".".join(k.split(".")[:i]) for k in known for i in range(1, k.count(".") + 1)} == set(rows) - known
    text = home.cli("explain", "limits.max_rejects").stdout
    for words in ("limits.max_rejects\n", "damaged rows of one file", "conf/tenants/<tenant>.conf", "-1: no limit", "mysimbdp reload",
                  "limits = { max_rejects = 100; };"):
        assert words in text, text
    assert "platform.http.idle_s" in home.cli("explain", "platform.http").stdout
    assert "datasets.limits.max_rejects" in home.cli("explain", "max_rejects").stdout
    r = home.cli("explain", "max_rejets", check=False)
    assert r.returncode == 1 and "did you mean 'max_rejects'?" in r.stderr and not r.stdout


def test_the_tests_exist():
    for where in set(TABLE.values()):
        path, name = where.split("::")
        text = (ROOT / path).read_text()
        assert re.search(rf"^(def|static void) {name}\(", text, re.M), where


def test_every_key_of_the_example_is_known():
    example = ROOT.parent / "shared/example.conf"
    if not example.exists():
        return  # the project builds without it
    known = {k.rsplit(".", 1)[-1] for k in TABLE} | {part for k in set(TABLE) | LATER for part in k.split(".")}
    text = re.sub(r"#.*", "", example.read_text())
    text = text[:text.index("streams = (")]
    assert set(re.findall(r"(\w+)\s*=", text)) - known <= {"broker", "monitor", "streammgr", "gateway", "when", "for_s", "command"}


def test_keys_of_later_versions_are_refused(home):
    (home.path / "conf/mysimbdp.conf").write_text('platform = {\n ports = { streammgr = 80; }; };\n')
    r = home.cli("check", check=False)
    assert r.returncode == 1 and "streammgr" in r.stderr and "mysimbdp.conf:2" in r.stderr, r.stderr
