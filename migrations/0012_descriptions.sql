-- Describe tables, columns and functions in plainer words. Descriptions of app_logs, error_codes,
-- sources and views stay: users may have written their own, or dropped a view.

COMMENT ON TABLE pending_rows IS
    'Incomplete rows: samples that wait for the other required samples of their row.';
COMMENT ON COLUMN pending_rows.samples IS
    'The samples so far: the exact value of each column, as text.';
COMMENT ON COLUMN pending_rows.before IS
    'The samples before the last change; NULL if there were none.';

COMMENT ON TABLE rejected_samples IS 'Samples that could not be stored in a row, with the reason.';
COMMENT ON COLUMN rejected_samples.timestamp_ms IS
    'Milliseconds since the Unix epoch; may be outside the range of TIMESTAMPTZ.';
COMMENT ON COLUMN rejected_samples.table_name IS 'The table that the sample was meant for.';
COMMENT ON COLUMN rejected_samples.column_name IS
    'The column that the sample was meant for; NULL for samples rejected by early versions.';
COMMENT ON COLUMN rejected_samples.detail IS
    'The message of the database, if it refused the sample.';
COMMENT ON COLUMN rejected_samples.source_labels IS
    'The label set, if it is not in sources because the limit was reached or the database refused'
    ' it. Of a large label set, only the first of the samples rejected together has all labels.';

COMMENT ON TABLE receiver_tables IS
    'The declaration in force, in one row. A receiver with another declaration stores nothing.';
COMMENT ON COLUMN receiver_tables.declared_by IS
    'The role and the machine that put the declaration in force.';

COMMENT ON TABLE backfills IS
    'Unfinished backfills, and where the same command continues. Finished ones are deleted.';
COMMENT ON COLUMN backfills.done_ms IS
    'Everything before this time is stored; in milliseconds since the Unix epoch, like start_ms '
    'and end_ms.';

COMMENT ON FUNCTION app_status_longest_outage IS
    'Duration of the longest stretch of app_status <> 0; NULL if there was none. A row is valid '
    'until the next one if that comes within max_gap (default: three times the median interval), '
    'otherwise for the median interval. Takes array_agg(created_at) and array_agg(app_status).';
COMMENT ON FUNCTION app_status_shares IS
    'Share of each code among the rows, such as {"0": 0.75, "2": 0.25}. Takes '
    'array_agg(app_status).';

COMMENT ON TABLE code_classes IS
    'Classes of codes, which reports are computed from. Without an entry, code 0 is ok and every '
    'other code is a failure.';
COMMENT ON TABLE report_settings IS 'Settings of all reports, in one row.';
COMMENT ON COLUMN report_settings.time_zone IS
    'The time zone of days and shifts, such as Asia/Seoul.';
COMMENT ON COLUMN report_settings.micro_stop IS 'Failures shorter than this are micro-stops.';
COMMENT ON COLUMN report_settings.max_gap IS
    'A row is valid until the next row of its source if that comes within this time; NULL: three '
    'intervals of the source.';
COMMENT ON TABLE report_shifts IS
    'Shifts, in the time zone of report_settings. A shift that does not end later than it starts '
    'runs past midnight, and belongs to the day on which it starts.';
COMMENT ON COLUMN report_shifts.days IS
    'Days of the week on which the shift starts: 1 is Monday, 7 is Sunday.';
COMMENT ON COLUMN report_shifts.on_holidays IS 'Whether the shift also starts on holidays.';
COMMENT ON TABLE report_holidays IS 'Days on which no shift starts, except those with on_holidays.';
COMMENT ON TABLE planned_stops IS
    'Planned stops, such as maintenance. Their time counts as planned, whatever the code.';
COMMENT ON COLUMN planned_stops.source_id IS
    'The source that is stopped; NULL: every source with the labels.';
COMMENT ON COLUMN planned_stops.labels IS 'Labels of the sources that are stopped.';
COMMENT ON TABLE state_comments IS 'Comments on intervals of states.';
COMMENT ON COLUMN state_comments.started_at IS
    'A time within the interval, usually its start. The comment belongs to the interval that '
    'contains it.';
COMMENT ON COLUMN state_comments.author IS
    'Who wrote the comment: a user of the page, or the user who ran the command; NULL if unknown.';

COMMENT ON FUNCTION report IS
    'Times, failures and availability from since to before until, by source, shift, total or the '
    'name of a label. availability = up / (up + down), failures = stretches of down that begin in'
    ' the range, mttr = down / failures, mttf = up / failures, mtbf = mttf + mttr.';
COMMENT ON FUNCTION report_codes IS
    'Pareto of down time from since to before until: for each code, how often it began, how long '
    'it lasted, its share of all down time, and the cumulative share.';
COMMENT ON FUNCTION shift_times IS
    'Every shift that lies in the range from since to before until, or partly so. day is the day '
    'on which it starts.';
COMMENT ON FUNCTION state_intervals IS
    'State of each source from since to before until, without gaps: up, down, planned or unknown.'
    ' Without sources, those with rows in the range or in the 30 days before it.';

COMMENT ON TABLE report_days IS
    'What reports are added up from, by source and day (UTC). A day without rows has no entry. '
    'Entries are valid within the range in report_ranges, except near the days in report_changes.';
COMMENT ON COLUMN report_days.upto IS
    'Until when the unfinished day is computed; NULL: the whole day.';
COMMENT ON COLUMN report_days.part_up IS
    'Up time of each part of the day that receiver_day_parts returns. The following columns are '
    'by the same parts; a failure counts in the part in which it begins.';
COMMENT ON TABLE report_changes IS
    'Days (UTC) whose rows were inserted late, changed or deleted. Transactions only insert here,'
    ' each its own changes, so that none waits for another.';
COMMENT ON TABLE report_ranges IS
    'Which days of a table report_days has for all sources: from first_day to before end_day, '
    'computed with this max_gap. The day working_day is done for sources up to working_source. '
    'Later days are done for some sources, until report_days.upto.';
COMMENT ON COLUMN report_ranges.planned_at IS
    'Days before planned_end are computed once this transaction and all earlier ones have ended.';
COMMENT ON COLUMN report_ranges.recent_end IS
    'Until when unfinished days are being computed: done for sources up to recent_source, or for '
    'all if that is NULL.';
COMMENT ON COLUMN report_ranges.recent_planned_at IS
    'Rows before recent_planned_end are computed once this transaction and all earlier ones have '
    'ended.';

COMMENT ON FUNCTION receiver_add_up_days IS
    'Adds up days that were added up with other classes of codes, or not yet; returns how many.';
COMMENT ON FUNCTION receiver_changed_days IS
    'Returns the days that report_days cannot be used for, since rows in or near them have '
    'changed.';
COMMENT ON FUNCTION receiver_check_references(TEXT, JSONB, INT[]) IS
    'Checks that all these codes and sources exist, and locks them until the transaction ends; '
    'then switches off the row-by-row checks of foreign keys for this transaction. codes has the '
    'table and the codes of each column, such as {"app_status": {"table": "error_codes", "keys": '
    '[0, 3]}}.';
COMMENT ON FUNCTION receiver_references_obstacle(TEXT, JSONB) IS
    'Returns why the references of a batch cannot be checked all at once; NULL if they can. codes'
    ' has the table of each column of codes, such as {"app_status": {"table": "error_codes"}}.';
COMMENT ON FUNCTION receiver_code_column IS
    'Returns a column of codes of a declared table (the first one by default), and its table of '
    'codes.';
COMMENT ON FUNCTION receiver_code_columns IS 'Returns the columns of codes of a declared table.';
COMMENT ON FUNCTION receiver_code_name IS 'Returns the name of a code.';
COMMENT ON FUNCTION receiver_code_runs IS
    'Returns how long each source had the same code at a stretch, from since to before until.';
COMMENT ON FUNCTION receiver_known_runs IS
    'Returns the same as receiver_code_runs, from report_days where that is valid.';
COMMENT ON FUNCTION receiver_runs_query IS
    'Writes the query of receiver_code_runs. A row is valid until the next row of its source if '
    'that comes within max_gap, otherwise for one interval of its source. All arguments but names'
    ' are SQL expressions.';
COMMENT ON FUNCTION receiver_day_parts IS
    'Splits days (UTC) at the times of day at which any shift starts or ends.';
COMMENT ON FUNCTION receiver_figures IS
    'Returns times and counts of each source in each span. Spans of the same name must not '
    'overlap.';
COMMENT ON FUNCTION receiver_forget_days IS 'Deletes the entries of report_days before a time.';
COMMENT ON FUNCTION receiver_keep_days IS 'Computes the entries of report_days for some sources.';
COMMENT ON FUNCTION receiver_keep_part IS
    'Computes unfinished days up to a time, continuing where they were computed until before. '
    'Skips sources whose rows may still change them without an entry in report_changes.';
COMMENT ON FUNCTION receiver_keep_recent IS
    'Computes unfinished days from first_day on, for a limited number of sources; returns whether'
    ' sources are left.';
COMMENT ON FUNCTION receiver_keep_reports IS
    'Computes a limited number of days of sources for report_days; returns whether some are left.'
    ' Each call needs a transaction of its own, and only one may run at a time.';
COMMENT ON FUNCTION receiver_kept_range IS
    'Returns the first day that report_days has for a column, and the day after the last; NULL if'
    ' it has none.';
COMMENT ON FUNCTION receiver_make_intervals_function IS
    'Creates or replaces the function that returns the intervals of a table.';
COMMENT ON FUNCTION receiver_make_intervals_view IS
    'Creates or replaces the view of the intervals of a table.';
COMMENT ON FUNCTION receiver_note_inserted() IS 'Records the days of rows that were inserted late.';
COMMENT ON FUNCTION receiver_note_updated() IS
    'Records the days of late rows that were changed, before and after the change.';
COMMENT ON FUNCTION receiver_note_deleted() IS 'Records the days of rows that were deleted.';
COMMENT ON FUNCTION receiver_note_deleted_row() IS 'Records the day of a row that was deleted.';
COMMENT ON FUNCTION receiver_note_truncated() IS
    'Deletes all entries of report_days of a table that was truncated.';
COMMENT ON FUNCTION receiver_other_states IS
    'Returns the states of sources from since to before until, except on the given days (UTC).';
COMMENT ON FUNCTION receiver_ready_days IS
    'Returns the whole days (UTC) of a range for which report_days can be used and which no '
    'planned stop affects; NULLs for a day without rows. first_code lasts from midnight until '
    'first_end, last_code from last_start until the next midnight.';
COMMENT ON FUNCTION receiver_report_basis IS
    'Returns a number that changes with the classes of codes, the length of a micro-stop and the '
    'times of shifts.';
COMMENT ON FUNCTION receiver_report_triggers IS
    'Returns the triggers by which a table records late changes.';
COMMENT ON FUNCTION receiver_reported_sources IS
    'Returns the sources with a row of a table in a range of time, or in the 30 days before it.';
COMMENT ON FUNCTION receiver_run_for_each IS
    'Runs a statement whose $1 is an array over entries; where it fails, over smaller and smaller'
    ' parts. Returns the places (from 1) of the entries for which it failed, with SQLSTATE, name '
    'of the constraint and message. The other entries stay in effect.';
COMMENT ON FUNCTION receiver_watch_rows IS
    'Creates the triggers by which a table records late changes.';
COMMENT ON FUNCTION receiver_watches_rows IS
    'Returns whether a table has the triggers by which it records late changes.';
