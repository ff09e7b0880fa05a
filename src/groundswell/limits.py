"""Every bound, with its unit in its name and its reason beside it.

Relations between bounds are checked when this module is imported, so an edit that breaks one cannot start.
"""

from __future__ import annotations

from typing import Final

# --- one event -------------------------------------------------------------------------------------------------
event_bytes_max: Final = 256 * 1024  # one JSON event; larger ones are documents, not events
event_id_chars_max: Final = 256  # UUIDs take 36; Segment allows free text
envelope_chars_max: Final = 1024  # any other envelope string
json_depth_max: Final = 32  # deeper documents are attacks or bugs; the decoder must never recurse freely
integer_min: Final = -(2**63)  # a property of type int is an Iceberg long
integer_max: Final = 2**63 - 1
ts_ahead_s_max: Final = 24 * 3600  # phones with a wrong clock; more is a dead letter
ts_earliest: Final = "2000-01-01T00:00:00Z"  # before any event that could be meant

# --- one request -----------------------------------------------------------------------------------------------
body_bytes_max: Final = 8 * 1024 * 1024  # compressed or not, as received
body_decoded_bytes_max: Final = 32 * 1024 * 1024  # after gzip or zstd: bounds what a bomb can cost
batch_events_max: Final = 10_000  # events of one request
queue_bytes_max: Final = 64 * 1024 * 1024  # decoded events of one process that wait for their fsync
receiving_bytes_max: Final = 64 * 1024 * 1024  # bodies of one process that are still being received
body_receive_s_max: Final = 30.0  # phones on bad networks are slow; a body that takes longer holds memory for nothing
group_commit_wait_s: Final = 0.004  # how long an append waits for company: well under a request's own latency
refused_samples_max: Final = 100  # kept per group commit, so that a flood of rubbish cannot fill the disk
refused_sample_bytes_max: Final = 1024

# --- log -------------------------------------------------------------------------------------------------------
log_partitions: Final = 4  # twice the cores of the smallest machine, fixed when a log is created
log_partitions_max: Final = 1_024  # each is a table of every segment and a fingerprint index of ingest
record_bytes_max: Final = 64 * 1024 * 1024  # one record fits the queue of a process; SQLite ends at 1 GB
group_commit_bytes_max: Final = 16 * 1024 * 1024  # appends that share one transaction: about 50 ms of writing
wal_bytes_max: Final = 8 * 1024 * 1024  # then it is copied into the segment, while appends wait: about 20 ms
log_busy_s: Final = 5.0  # how long an append waits for another process's, which takes milliseconds
log_readers_max: Final = 16  # idle read connections a process keeps open
segment_bytes_max: Final = 256 * 1024 * 1024  # a segment is dropped whole; small enough to drop often
segment_age_s_max: Final = 24 * 3600
log_retention_s: Final = 14 * 24 * 3600  # must outlive the window in which a retry is recognised
dead_letter_retention_s: Final = 90 * 24 * 3600  # long enough to notice, fix and replay
record_events_max: Final = 8_192  # events of one log record: bounds what a reader must hold

# --- ingest ----------------------------------------------------------------------------------------------------
contribution_rows_max: Final = 500_000  # one worker's file: about 40 MB of Parquet
commit_interval_s: Final = 0.5  # a commit costs 0.05 to 0.25 s
dedupe_window_s: Final = 7 * 24 * 3600  # clients retry for hours, phones come back after days
hot_fingerprints_max: Final = 4_000_000  # a worker's memory table: 2**23 slots of 20 B = 168 MB
fingerprint_run_entries_max: Final = 2**26  # a merge holds 2.5 B an entry in memory: 168 MB
clock_skew_s_max: Final = 300  # between machines
ingest_read_bytes_max: Final = 8 * 1024 * 1024  # undecoded records a worker holds for one partition
contributions_waiting_max: Final = 2  # of one worker: it writes one while the other is committed
idle_commit_interval_s: Final = 10.0  # how old ``as_of`` may be where nothing happens; a commit is several files
ingest_poll_s: Final = 0.05  # how often an idle worker looks into the log
backoff_s_min: Final = 0.05  # first wait after a transient error, doubled each time
backoff_s_max: Final = 5.0  # a store that comes back is noticed this soon
upkeep_interval_s: Final = 10.0  # between rounds of compaction, expiry and log maintenance
mapping_chars_max: Final = 1_000_000  # one mapping file of an import; people write these by hand
import_line_bytes_max: Final = 32 * 1024 * 1024  # a line without an end is no JSON lines file
import_chunk_rows: Final = 4_096  # rows of a mapped file that are decoded and appended together
import_chunk_bytes: Final = 4 * 1024 * 1024  # the same of JSON lines: about 12,000 events, one record a partition
import_spread_bytes_min: Final = 16 * 1024 * 1024  # a smaller file is decoded before another process has started
dead_letters_page_max: Final = 1_000  # letters held with their contents: at most 256 MB, mostly one
audit_identities_max: Final = 64_000_000  # compared at once: two arrays of 512 MB, and as much again to sort them
trace_events_max: Final = 1_000  # events of one unit that a trace shows; the rest is counted
import_samples_max: Final = 20  # broken rows that a report shows in words; all are counted
orphan_sweep_interval_s: Final = 3600.0  # a sweep lists every data file

# --- lake ------------------------------------------------------------------------------------------------------
live_snapshots_max: Final = 500
snapshot_age_s_min: Final = 3600  # a reader that loaded a snapshot may use it this long
orphan_age_s_min: Final = 24 * 3600  # a file that no snapshot names may belong to a commit under way
fresh_files_max: Final = 32  # more than this and compaction runs
compaction_rows_max: Final = 4_000_000  # sorted in memory at once
compaction_bytes_max: Final = 512 * 1024 * 1024  # of Parquet sorted at once: three to four times that in memory
sorted_runs_max: Final = 4  # more than this and runs are merged

# --- engine ----------------------------------------------------------------------------------------------------
engine_range_rows: Final = 1_000_000  # a thread holds at once: about 100 MB with five values
engine_pool_rows_max: Final = 4_000_000  # sorted in memory at once: half a second, about 400 MB with five values
sql_memory_bytes_max: Final = 2 * 1024 * 1024 * 1024  # of one ad-hoc query; it must not starve ingest beside it

# --- definitions -----------------------------------------------------------------------------------------------
name_chars_max: Final = 64
variants_max: Final = 64
properties_max: Final = 2_000  # columns of the one wide table
definitions_max: Final = 10_000  # objects of one kind: a portfolio of 100 experiments with room to grow a hundredfold
weight_sum_max: Final = 2**31 - 1  # of one experiment: flagd's bound, so that (hash * total) >> 32 stays within 64 bits
metric_window_s_max: Final = 10 * 366 * 24 * 3600  # ten years, far below the microseconds that 64 bits hold
description_chars_max: Final = 4_000
manifest_bytes_max: Final = 4 * 1024 * 1024  # one file of definitions: some 20,000 of them
manifest_nodes_max: Final = 500_000  # values of one file after anchors are followed: bounds what a bomb can cost
manifest_depth_max: Final = 16  # a definition needs five
manifest_problems_max: Final = 200  # reported at once; more than anyone mends before trying again
definitions_poll_s: Final = 1.0  # how old what a running process knows of definitions and keys may be
unknown_key_poll_s: Final = 0.1  # an unknown key may be new; asked no oftener, so that guessing keys costs little
store_busy_s: Final = 5.0  # how long a write waits for another process's transaction, which takes milliseconds

# --- flags and pages -------------------------------------------------------------------------------------------
flag_body_bytes_max: Final = 64 * 1024  # an evaluation context: a person's attributes, not documents
flag_requests_per_s_max: Final = 10_000  # of one key in one process: half of what a core answers
flag_burst_s: Final = 2.0  # how much of that rate may come at once, after a pause
cors_max_age_s: Final = 7200  # how long a browser remembers a preflight; browsers cap it there
page_rows: Final = 50  # dead letters of one page: more is not read
page_readers_max: Final = 4  # pages being read from the lake and the log at once; a scorecard may take a core
page_waiting_max: Final = 64  # pages that wait for their turn; past it people are asked to come back

# --- statistics ------------------------------------------------------------------------------------------------
alpha_default: Final = 0.05  # two-sided
srm_alarm_p: Final = 0.001  # the sample-ratio alarm

assert body_bytes_max <= body_decoded_bytes_max <= queue_bytes_max, "one request must fit the queue"
assert event_bytes_max <= body_bytes_max <= receiving_bytes_max
assert record_bytes_max <= queue_bytes_max <= segment_bytes_max
assert dedupe_window_s < log_retention_s, "the index is rebuilt from the log, so the log must hold the window"
assert log_retention_s <= dead_letter_retention_s
assert snapshot_age_s_min < orphan_age_s_min, "a file must outlive every reader that may name it"
