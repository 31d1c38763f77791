"""The texts of the page in each language: English, Korean."""

from __future__ import annotations

from typing import Final

from receiver.web.languages import Language

ORDER: Final = (Language.ENGLISH, Language.KOREAN)

TEXTS: Final[dict[str, tuple[str, str]]] = {
    # --- on every page ---
    "times_in": ("Times are in the zone {zone}.", "시각은 {zone} 시간대 기준입니다."),
    "updated": ("Updated {time}", "{time} 갱신"),
    "pause": ("Pause updates", "갱신 일시 중지"),
    "lost": ("This page is not up to date.", "이 페이지는 최신 상태가 아닙니다."),
    "lost_since": (
        "No answer from the receiver since {time}. The page shows the state at that time.",
        "{time}부터 receiver가 응답하지 않습니다. 화면은 그때의 상태입니다.",
    ),
    "lost_as_of": (
        "It shows {time} and does not update by itself. Reload it.",
        "{time}의 상태이며 자동으로 갱신되지 않습니다. 새로 고치십시오.",
    ),
    "board": ("Board", "현황판"),
    "all": ("all", "전체"),
    "skip": ("Skip to the content", "본문으로 건너뛰기"),
    "pages": ("Pages", "페이지"),
    "language": ("Language", "언어"),
    "overview": ("Overview", "현황"),
    "logs": ("Logs", "로그"),
    "rejected": ("Rejected samples", "거부된 샘플"),
    "codes": ("Error codes", "에러 코드"),
    "older": ("Older", "이전 항목"),
    "table": ("Table", "테이블"),
    "tables": ("Tables", "테이블 목록"),
    "all_tables": ("all", "전체"),
    "newest": ("Newest", "최신 항목"),
    # --- overview ---
    "now": ("Now", "지금"),
    "one_source": ("1 source", "소스 1개"),
    "sources_number": ("{number} sources", "소스 {number}개"),
    "state_failure": ("Failing", "고장"),
    "state_silent": ("Silent", "무응답"),
    "state_planned": ("Planned stop", "계획 정지"),
    "state_ok": ("OK", "정상"),
    "state_none": ("No row yet", "행 없음"),
    "unknown": ("Unknown", "알 수 없음"),
    "longest": ("longest: {age}", "최장 {age}"),
    "planned_until": ("until {time}", "{time}까지"),
    "last_silent": ("last sample {age} ago", "마지막 샘플 {age} 전"),
    "flow_yes": ("Data is arriving.", "데이터가 들어오고 있습니다."),
    "flow_late": ("Data is late.", "데이터가 늦어지고 있습니다."),
    "flow_none": ("No data is arriving.", "데이터가 들어오지 않습니다."),
    "flow_never": ("No rows yet.", "아직 들어온 행이 없습니다."),
    "newest_row": ("Newest row", "최신 행"),
    "rows_second": ("{number} rows/s", "초당 {number}행"),
    "pending": ("{number} incomplete rows", "완성되지 않은 행 {number}개"),
    "rejected_minute": ("{number} rejected in 1 min", "최근 1분 동안 {number}개 거부"),
    "sources": ("Sources", "소스"),
    "search": ("Search", "검색"),
    "search_example": ("name, code, line=A", "이름, 코드, line=A"),
    "sort": ("Order", "정렬"),
    "sort_problems": ("Problems first", "문제 우선"),
    "sort_name": ("Name", "이름"),
    "sort_longest": ("Longest in state", "지속 시간이 긴 순"),
    "sort_newest": ("Latest change", "최근에 바뀐 순"),
    "group": ("Group by", "그룹"),
    "no_group": ("–", "–"),
    "without_label": ("without {label}", "{label} 없음"),
    "lasting": ("For", "지속 시간"),
    "failures": ("Failures today", "오늘 고장"),
    "availability": ("Availability today", "오늘 가동률"),
    "labels_number": ("Labels ({number})", "레이블 {number}개"),
    "rows_here": ("Rows", "행"),
    "was": ("last state: {code}", "마지막 상태: {code}"),
    "strip": ("{source}: {text}", "{source}: {text}"),
    "no_sources": (
        "There are no sources yet. They appear with the first samples.",
        "아직 소스가 없습니다. 첫 샘플이 도착하면 여기에 나타납니다.",
    ),
    "no_match": ("No source matches.", "조건에 맞는 소스가 없습니다."),
    "all_sources": ("Show all", "모두 보기"),
    "of_found": ("{first}–{last} of {number}", "{number}개 중 {first}–{last}"),
    "previous_page": ("Previous", "이전"),
    "next_page": ("Next", "다음"),
    "definitions": (
        "A row holds until the next one; after three intervals of its source without a row, the "
        "source is silent and the time unknown. Availability = OK / (OK + failing); planned and "
        "unknown time do not count. Failures are counted where they begin.",
        "한 행의 상태는 다음 행이 올 때까지 이어집니다. 그 소스의 행 간격의 세 배가 지나도록 행이 "
        "없으면 무응답이며, 그 시간의 상태는 알 수 없습니다. 가동률 = 정상 / (정상 + 고장)이며 "
        "계획 정지와 알 수 없는 시간은 제외합니다. 고장은 시작된 시점에 한 번 셉니다.",
    ),
    "more_than": ("more than {number}", "{number} 초과"),
    "source": ("Source", "소스"),
    "state": ("State", "상태"),
    "newest_sample": ("Newest sample", "최신 샘플"),
    "ocr_value": ("OCR value", "OCR 값"),
    "sources_page": ("Pages of sources", "소스 목록의 페이지"),
    # --- board ---
    "all_well": ("All is well", "모두 정상"),
    "no_alarm": ("Nothing is failing or silent", "고장과 무응답 없음"),
    "over_a_day": ("over 24 h", "24시간 이상"),
    "turn": ("Page {number} of {all}", "{all}쪽 중 {number}쪽"),
    "as_of": ("As of {time}", "{time} 기준"),
    # --- a source ---
    "states": ("States, newest first", "상태, 최신순"),
    "no_states": ("No state is known in this range.", "이 기간에 알려진 상태가 없습니다."),
    "length": ("Length", "지속 시간"),
    "ongoing": ("ongoing", "진행 중"),
    "cut": (
        "Only the newest {number} states are listed. Choose a shorter range for more.",
        "최신 상태 {number}개만 표시했습니다. 더 보려면 기간을 줄이십시오.",
    ),
    "cause_and_comment": ("Cause and comment", "원인과 메모"),
    "comment_on": ("Write a comment", "메모 쓰기"),
    "cause": ("Cause", "원인"),
    "comment": ("Comment", "메모"),
    "written_by": ("by {author}", "작성자 {author}"),
    "no_source": ("There is no such source.", "해당하는 소스가 없습니다."),
    # --- reports ---
    "reports": ("Reports", "보고서"),
    "report_shift": ("Shift report", "근무조 보고서"),
    "report_day": ("Report of the day", "일간 보고서"),
    "report_week": ("Report of the week", "주간 보고서"),
    "report_month": ("Report of the month", "월간 보고서"),
    "report_custom": ("Report", "보고서"),
    "kind_shift": ("Shift", "근무조"),
    "kind_day": ("Day", "일"),
    "kind_week": ("Week", "주"),
    "kind_month": ("Month", "월"),
    "kind_custom": ("Any range", "직접 지정"),
    "period": ("Period", "기간"),
    "files": ("Files and print", "파일과 인쇄"),
    "print": ("Print", "인쇄"),
    "running": ("not over yet", "아직 끝나지 않음"),
    "compared": ("compared with the previous period", "직전 기간과 비교"),
    "compared_whole": ("compared with the whole previous period", "직전 기간 전체와 비교"),
    "shift": ("Shift", "근무조"),
    "day": ("Day", "날짜"),
    "from_in": ("From ({zone})", "시작 ({zone})"),
    "to_in": ("To ({zone})", "끝 ({zone})"),
    "availability_word": ("Availability", "가동률"),
    "failures_word": ("Failures", "고장"),
    "failures_number": ("Failures {number}", "고장 {number}회"),
    "mttr": ("MTTR, mean time to repair", "MTTR, 평균 복구 시간"),
    "mttf": ("MTTF, mean time to failure", "MTTF, 고장까지의 평균 시간"),
    "mtbf": ("MTBF, mean time between failures", "MTBF, 평균 고장 간격"),
    "micro_stops": ("Micro-stops (under {length})", "순간 정지 ({length} 미만)"),
    "micro_word": ("Micro-stops", "순간 정지"),
    "together": ("{length} in total", "합계 {length}"),
    "unknown_time": ("Unknown", "알 수 없음"),
    "planned_time": ("Planned", "계획 정지"),
    "up_time": ("Up", "가동 시간"),
    "down_time": ("Down", "고장 시간"),
    "not_counted": ("not in the availability", "가동률 계산에서 제외"),
    "pareto": ("Codes by down time", "고장 시간이 긴 에러 코드"),
    "codes_of_report": ("Down time by code", "에러 코드별 고장 시간"),
    "times": ("{number}×", "{number}회"),
    "count": ("Count", "횟수"),
    "share_word": ("Share", "비율"),
    "cumulative": ("Cumulative", "누적"),
    "no_failures": ("No failure in this period.", "이 기간에 고장이 없습니다."),
    "no_figures": ("No source had rows in this period.", "이 기간에 행이 있는 소스가 없습니다."),
    "by_source": ("By source", "소스별"),
    "by_label": ("By {label}", "{label}별"),
    "by_shift": ("By shift", "근무조별"),
    "outside_shifts": (
        "Time outside of all shifts is not listed.",
        "어느 근무조에도 속하지 않는 시간은 표에 나오지 않습니다.",
    ),
    "total": ("total", "합계"),
    "report_definitions": (
        "Availability = up / (up + down); planned and unknown time do not count. A failure is a "
        "stretch of down time, counted where it begins. MTTR = down / failures. MTTF = up / "
        "failures. MTBF = MTTF + MTTR. A micro-stop is a failure whose whole length, also beyond "
        "the period, is under {length}; an ongoing one counts by its length so far. Figures of "
        "groups are calculated from the sums of their times. A row holds until the next one; after "
        "three intervals of its source without a row, the time is unknown.",
        "가동률 = 가동 시간 / (가동 시간 + 고장 시간)이며 계획 정지와 알 수 없는 시간은 "
        "제외합니다. 끊기지 않고 이어진 고장 시간을 고장 한 번으로 보고, 시작된 시점에 셉니다. "
        "MTTR = 고장 시간 / 고장 횟수. MTTF = 가동 시간 / 고장 횟수. MTBF = MTTF + MTTR. "
        "순간 정지는 기간 밖까지 포함한 전체 길이가 {length}보다 짧은 고장이며, 진행 중인 고장은 "
        "지금까지의 길이로 셉니다. 그룹의 수치는 시간을 더해 계산합니다. "
        "한 행의 상태는 다음 행까지 이어지고, 그 소스의 행 간격의 세 배가 지나도록 행이 없으면 "
        "그 시간의 상태는 알 수 없습니다.",
    ),
    "no_codes_column": (
        "The table {table} has no column of codes, so there is no report.",
        "테이블 {table}에는 코드 열이 없어 보고서를 만들 수 없습니다.",
    ),
    # --- calendar ---
    "calendar": ("Shifts and planned stops", "근무조와 계획 정지"),
    "calendar_hint": (
        "Reports are calculated from the settings on this page; shifts and days are in the zone "
        "{zone}.",
        "보고서는 이 페이지의 설정에 따라 계산합니다. 근무조와 하루는 {zone} 시간대 기준입니다.",
    ),
    "classes_hint": (
        "What a code means is set on the page of error codes.",
        "코드의 뜻은 에러 코드 페이지에서 정합니다.",
    ),
    "read_only_calendar": (
        "Shifts, holidays and planned stops can be changed here once a credential is set "
        "(RECEIVER_BEARER_TOKEN or RECEIVER_CREDENTIALS_FILE); until then, use the commands "
        "receiver shifts and receiver stops.",
        "인증 정보(RECEIVER_BEARER_TOKEN 또는 RECEIVER_CREDENTIALS_FILE)를 설정하면 여기에서 "
        "근무조, 휴일, 계획 정지를 바꿀 수 있습니다. 그 전에는 receiver shifts와 receiver stops "
        "명령을 쓰십시오.",
    ),
    "rules": ("Time zone and micro-stops", "시간대와 순간 정지"),
    "time_zone": ("Time zone", "시간대"),
    "micro_limit": ("Micro-stops are shorter than (seconds)", "순간 정지의 기준 (초 미만)"),
    "shifts": ("Shifts", "근무조"),
    "days": ("Days", "요일"),
    "day_1": ("Mon", "월"),
    "day_2": ("Tue", "화"),
    "day_3": ("Wed", "수"),
    "day_4": ("Thu", "목"),
    "day_5": ("Fri", "금"),
    "day_6": ("Sat", "토"),
    "day_7": ("Sun", "일"),
    "on_holidays": ("On holidays too", "휴일에도 적용"),
    "next_day": ("next day", "다음 날"),
    "yes": ("yes", "예"),
    "no": ("no", "아니요"),
    "no_shifts": ("There are no shifts.", "등록된 근무조가 없습니다."),
    "holidays": ("Holidays", "휴일"),
    "no_holidays": ("There are no holidays.", "등록된 휴일이 없습니다."),
    "stops": ("Planned stops", "계획 정지"),
    "no_stops": ("There are no planned stops.", "등록된 계획 정지가 없습니다."),
    "all_sources_word": ("all sources", "모든 소스"),
    "or_label": ("or all with a label", "또는 레이블로 지정"),
    "remove": ("Remove", "삭제"),
    "saved_change": ("Saved.", "저장했습니다."),
    "meaning": ("Meaning", "뜻"),
    "by_itself": ("default: 0 is OK, others fail", "기본: 0은 정상, 나머지는 고장"),
    # --- timeline ---
    "until": ("End ({zone}; empty: now)", "끝 ({zone}, 비우면 현재)"),
    "to_now": ("Now", "현재"),
    "zoom_hint": ("Drag over a strip to zoom in.", "띠 위에서 끌면 확대됩니다."),
    "legend": ("What the colours mean", "색의 뜻"),
    "range_custom": ("Chosen range", "선택한 기간"),
    "timeline_range": ("Time range of the timeline", "타임라인 기간"),
    "range": ("Range", "기간"),
    "show": ("Show", "보기"),
    "earlier": ("Earlier", "이전 기간"),
    "later": ("Later", "다음 기간"),
    "from": ("From", "시작"),
    "to": ("To", "끝"),
    "rows": ("Rows", "행 수"),
    # --- logs ---
    "filter": ("Filter", "필터"),
    "logs_caption": ("Logs, newest first", "로그, 최신순"),
    "time": ("Time", "시각"),
    "description": ("Description", "설명"),
    "no_logs": ("There are no logs in this range.", "이 기간에 로그가 없습니다."),
    "all_times": ("Search all times", "전체 기간에서 검색"),
    "looked_at": (
        "{number} rows were searched, back to",
        "행 {number}개를 검색했습니다. 검색한 가장 이른 시각:",
    ),
    "samples_looked_at": (
        "{number} rejected samples were searched.",
        "거부된 샘플 {number}개를 검색했습니다.",
    ),
    "go_on": ("Search further back", "더 이전까지 검색"),
    # --- rejected samples ---
    "rejected_caption": ("Rejected samples, newest first", "거부된 샘플, 최신순"),
    "rejected_at": ("Rejected at", "거부된 시각"),
    "metric": ("Metric", "메트릭"),
    "column": ("Column", "열"),
    "sample_time": ("Sample's time", "샘플 시각"),
    "value": ("Value", "값"),
    "reason": ("Reason", "이유"),
    "no_rejected": ("No sample was rejected.", "거부된 샘플이 없습니다."),
    "reason_not_a_number": ("not a number (NaN)", "숫자가 아님 (NaN)"),
    "reason_infinite": ("infinite", "무한대"),
    "reason_not_whole": ("not a whole number", "정수가 아님"),
    "reason_out_of_range": (
        "outside of the column's range",
        "열에 담을 수 있는 범위를 벗어남",
    ),
    "reason_timestamp_out_of_range": (
        "its time is outside of the column's range",
        "시각이 열에 담을 수 있는 범위를 벗어남",
    ),
    "reason_conflict": (
        "another value was stored for the same time and source",
        "같은 시각과 소스에 다른 값이 이미 저장됨",
    ),
    "reason_unpaired": ("its row was not completed in time", "행이 제시간에 완성되지 않음"),
    "reason_other_sample_rejected": (
        "another sample of its row was rejected",
        "같은 행의 다른 샘플이 거부됨",
    ),
    "reason_label_does_not_fit": (
        "a label does not fit its column",
        "레이블이 열에 맞지 않음",
    ),
    "reason_too_old": ("its time is too long ago", "시각이 너무 오래됨"),
    "reason_too_far_ahead": ("its time is too far in the future", "시각이 너무 먼 미래"),
    "reason_too_many_new_sources": (
        "too many new label sets in an hour",
        "한 시간에 새 레이블 집합이 너무 많음",
    ),
    "reason_too_many_new_codes": (
        "too many unknown error codes in an hour",
        "한 시간에 등록되지 않은 에러 코드가 너무 많음",
    ),
    "reason_too_many_new_chunks": (
        "too many chunks of other days in an hour",
        "한 시간에 다른 날의 청크가 너무 많음",
    ),
    "reason_refused_by_database": ("the database refused it", "데이터베이스가 거부함"),
    # --- error codes ---
    "codes_caption": ("Error codes, by number", "에러 코드, 번호순"),
    "code": ("Code", "코드"),
    "name": ("Name", "이름"),
    "since": ("Since", "등록 시각"),
    "next_codes": ("Next codes", "다음 코드"),
    "first_codes": ("First codes", "처음 코드"),
    "codes_page": ("Pages of codes", "코드 목록의 페이지"),
    "no_codes": ("There are no error codes here.", "여기에는 에러 코드가 없습니다."),
    "change": ("Change", "변경"),
    "change_code": ("Change code {code}", "코드 {code} 변경"),
    "add": ("Add", "추가"),
    "add_code": ("Add a code", "코드 추가"),
    "save": ("Save", "저장"),
    "saved": ("Code {code} was saved.", "저장했습니다: 코드 {code}."),
    "only_reads": (
        "You may only read here (`may` in RECEIVER_CREDENTIALS_FILE).",
        "이 인증 정보로는 보기만 할 수 있습니다(RECEIVER_CREDENTIALS_FILE의 may).",
    ),
    "read_only": (
        "Codes can be changed here once a credential is set (RECEIVER_BEARER_TOKEN or "
        "RECEIVER_CREDENTIALS_FILE); until then, use the command receiver codes{flag}.",
        "인증 정보(RECEIVER_BEARER_TOKEN 또는 RECEIVER_CREDENTIALS_FILE)를 설정하면 여기에서 "
        "코드를 바꿀 수 있습니다. 그 전에는 receiver codes{flag} 명령을 쓰십시오.",
    ),
    "same_name": (
        "Code {code} has the same name.",
        "코드 {code}도 같은 이름을 쓰고 있습니다.",
    ),
    "seen_before": (
        "Seen in {metric} before it was registered",
        "등록되기 전에 {metric}에서 나타남",
    ),
    "exists": (
        "Code {code} exists already; change it in the list.",
        "이미 있는 코드입니다: {code}. 목록에서 변경하십시오.",
    ),
    "missing": ("There is no code {code}.", "없는 코드입니다: {code}."),
    # --- faults ---
    "fault_404": ("There is no such page", "없는 페이지입니다"),
    "no_page": (
        "The address {path} leads to no page of this receiver.",
        "이 receiver에는 {path} 주소의 페이지가 없습니다.",
    ),
    "fault_400": ("This request is not valid", "올바르지 않은 요청입니다"),
    "fault_403": ("This is not allowed", "허용되지 않은 요청입니다"),
    "fault_409": ("This change is not possible", "그렇게 변경할 수 없습니다"),
    "fault_413": ("The form is too large", "보낸 내용이 너무 큽니다"),
    "fault_500": ("The page could not be rendered", "페이지를 만들지 못했습니다"),
    "fault_503": ("The database cannot be read now", "지금은 데이터베이스를 읽을 수 없습니다"),
    "fault_slow": (
        "This report takes too long for a page",
        "페이지가 기다리는 시간 안에 이 보고서를 만들 수 없습니다",
    ),
    "slow_report": (
        "Too many rows of this range must be read: the totals of a day are ready some hours after "
        "it has ended (00:00 UTC), or later if those of earlier days are not ready yet. Choose a "
        "range that ends earlier or is shorter, or run the command receiver report, which waits "
        "longer.",
        "이 기간에는 읽어야 할 행이 너무 많습니다. 하루치 집계는 그날이 끝나고(00:00 UTC) "
        "몇 시간이 지나면 준비되며, 밀린 날이 있으면 더 걸립니다. 더 일찍 끝나거나 더 짧은 "
        "기간을 선택하거나, 더 오래 기다리는 명령 receiver report를 실행하십시오.",
    ),
    "bad_choice": (
        "{name} must be one of {choices}.",
        "{name}은(는) 다음 중 하나여야 합니다: {choices}.",
    ),
    "bad_number": (
        "{name} must be a whole number from {lowest} to {highest}.",
        "{name}은(는) {lowest}부터 {highest}까지의 정수여야 합니다.",
    ),
    "bad_time": (
        "{name} must be a time such as 2026-11-25T09:30 (in {zone}).",
        "{name}은(는) 2026-11-25T09:30 같은 시각이어야 합니다 ({zone}).",
    ),
    "bad_zone": (
        "{name} must be a time zone such as Asia/Seoul.",
        "{name}은(는) Asia/Seoul 같은 시간대여야 합니다.",
    ),
    "bad_report_range": (
        "since and until must be times at most 366 days apart, with until the later one.",
        "since와 until은 시각이어야 하고, until이 더 늦어야 하며, 간격은 366일 이하여야 합니다.",
    ),
    "bad_report_parameter": (
        "A report has no range: choose kind=shift, day, week or month, or give since and until.",
        "보고서에는 range가 없습니다. kind=shift, day, week, month 가운데 고르거나 since와 until을 "
        "적으십시오.",
    ),
    "bad_source": (
        "source: there is no source with the number {source}; the overview lists the sources.",
        "source: 번호가 {source}인 소스가 없습니다. 소스는 현황 페이지에 나옵니다.",
    ),
    "bad_day": (
        "{name} must be a day such as 2026-11-25.",
        "{name}은(는) 2026-11-25 같은 날짜여야 합니다.",
    ),
    "bad_clock": (
        "{name} must be a time of the day such as 07:00.",
        "{name}은(는) 07:00 같은 시각이어야 합니다.",
    ),
    "bad_days": ("Choose at least one day.", "요일을 하나 이상 선택하십시오."),
    "bad_stop": (
        "The planned stop must have a start and a later end.",
        "계획 정지에는 시작과 그보다 늦은 끝이 있어야 합니다.",
    ),
    "bad_label": (
        "label must be a name and a value, such as line=A.",
        "레이블은 line=A처럼 적어야 합니다.",
    ),
    "bad_range": (
        "since and until must be 1 minute to 92 days apart.",
        "since와 until의 간격은 1분에서 92일 사이여야 합니다.",
    ),
    "bad_place": (
        "{name} must come from a link of this page.",
        "{name}은(는) 이 페이지의 링크에서 온 값이어야 합니다.",
    ),
    "bad_text": (
        "{name} must be one line of text of at most {most} characters.",
        "{name}은(는) {most}자 이하의 한 줄 텍스트여야 합니다.",
    ),
    "bad_name": (
        "{name} must not be empty, and be one line of text of at most {most} characters.",
        "{name}은(는) 비어 있지 않은 {most}자 이하의 한 줄 텍스트여야 합니다.",
    ),
    "bad_form": ("The form could not be read.", "보낸 내용을 읽을 수 없습니다."),
    "not_from_here": (
        "The form is not from this page, or is too old. Reload the page and try again.",
        "이 페이지에서 보낸 양식이 아니거나 너무 오래되었습니다. "
        "페이지를 새로 고친 뒤 다시 시도하십시오.",
    ),
    "unknown_fault": (
        "Something went wrong; see the receiver's log.",
        "문제가 생겼습니다. 자세한 내용은 receiver의 로그에 있습니다.",
    ),
    "busy": (
        "The database does not answer in time. Senders keep their samples meanwhile; "
        "this page tries again by itself.",
        "데이터베이스가 제시간에 응답하지 않습니다. 그동안 송신기가 샘플을 보관하며, "
        "이 페이지는 자동으로 다시 시도합니다.",
    ),
    "back": ("To the overview", "현황으로"),
    # --- units: of time ---
    "ago": ("{age} ago", "{age} 전"),
    "ahead": ("{age} ahead", "{age} 앞섬"),
    "s": ("{number} s", "{number}초"),
    "min": ("{number} min", "{number}분"),
    "h": ("{number} h", "{number}시간"),
    "d": ("{number} d", "{number}일"),
    "range_15m": ("15 minutes", "15분"),
    "range_1h": ("1 hour", "1시간"),
    "range_6h": ("6 hours", "6시간"),
    "range_24h": ("24 hours", "24시간"),
    "range_7d": ("7 days", "7일"),
    "range_30d": ("30 days", "30일"),
    "range_90d": ("90 days", "90일"),
    "range_all": ("all", "전체"),
}


def say(language: Language, key: str, **values: object) -> str:
    """Return a text in a language, with values for its braces."""
    return TEXTS[key][ORDER.index(language)].format_map(values)
