"""Every bound in one place, each derived or with its source. Nothing in Voltgate grows without one."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# ---- MQTT ------------------------------------------------------------------------------------------------------------
PAYLOAD_BYTES_MAX: Final = 256 * KIB
"""Largest application message. A bus sends 300 B; an hour's batch of 1 Hz columns is about 200 KiB."""
TOPIC_BYTES_MAX: Final = 512
TOPIC_LEVELS_MAX: Final = 16
PACKET_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + 64 * KIB + TOPIC_BYTES_MAX
"""Payload, topic and the largest property block; checked on the fixed header, before the packet is buffered."""
CLIENT_ID_BYTES_MAX: Final = 256
WILL_BYTES_MAX: Final = 16 * KIB
RECEIVE_MAX: Final = 1000
"""QoS 1 and 2 messages a device may have unacknowledged (MQTT 5 receive maximum, 3.1.1 by pausing the socket)."""
TOPICS_PER_CONNECTION_MAX: Final = 256
"""Resolved topics remembered per connection; past that the memo is emptied, never grown."""
CONNECT_TIMEOUT_S: Final = 10.0
"""A socket that has not completed CONNECT by then is closed."""
CONNECTIONS_MAX: Final = 20_000
CONNECTIONS_UNAUTHENTICATED_MAX: Final = 1_000
"""Sockets before CONNECT is answered. For the next one the longest silent is closed, so that 10,000 silent sockets cost
1,000 slots and a device that speaks at once still gets in."""
WRITE_BUFFER_BYTES_MAX: Final = 256 * KIB
"""A peer that does not read its acknowledgements is closed past this."""
CONNECT_BYTES_MAX: Final = WILL_BYTES_MAX + 16 * KIB
"""A CONNECT: will, client id and credentials. Small, because nobody has said yet who sends it."""
CONTROL_BYTES_MAX: Final = 16 * KIB
"""Any packet that is neither CONNECT nor PUBLISH."""
USER_PROPERTIES_MAX: Final = 64
"""User properties of one packet; a packet of nothing else would hold the loop for 60 ms."""
TOPIC_ALIASES_MAX: Final = 64
"""Topic aliases a device may set per connection (MQTT 5 topic alias maximum)."""
SUBSCRIPTIONS_MAX: Final = 16
"""Filters per session; all that a device may ask for are narrowings of its own command filter."""
PARTIAL_BYTES_MAX: Final = 64 * MIB
"""Bytes of packets that have begun and not ended, over all connections; the one that goes past is closed."""
SESSION_EXPIRY_S_MAX: Final = 24 * 3600
"""A session is forgotten this long after its connection, whatever the device asked for."""
SESSIONS_MAX: Final = 100_000
"""Sessions kept without a connection; the one idle longest is forgotten past this."""
SHUTDOWN_DRAIN_S: Final = 3.0
"""At shutdown, how long acknowledgements may wait for the disk; the whole of a stop has 10 s."""
SOCKET_SEND_BYTES: Final = 64 * KIB
SOCKET_RECEIVE_BYTES: Final = 256 * KIB
"""Kernel buffers per device socket. Left alone the kernel grows each to some MiB, outside of all other bounds here."""
COMMANDS_QUEUED_MAX: Final = 100
"""Commands waiting for one offline device; the oldest is expired and counted past this."""
COMMAND_EXPIRY_S: Final = 3600.0
COMMAND_EXPIRY_S_MAX: Final = 7 * 24 * 3600.0
"""Longest expiry a command may ask for; its journal may forget what is older."""
COMMAND_BYTES_MAX: Final = 64 * KIB
COMMANDS_QUEUED_BYTES_MAX: Final = 64 * MIB
"""Payload bytes of all waiting commands; past that `submit` refuses."""
COMMANDS_IN_FLIGHT_MAX: Final = 16
"""Commands sent to one device and not acknowledged, or its own receive maximum if lower."""

# ---- chargers on their socket ----------------------------------------------------------------------------------------
CHARGER_FRAME_BYTES_MAX: Final = 192 * KIB
"""Largest OCPP message, also after inflating. A NotifyReport or a certificate chain has some 10 KiB; a black-box suite
of the field (npm ocpp-ws-cli) demands that 200,000 characters of data end the connection."""
CHARGER_HANDSHAKE_BYTES_MAX: Final = 8 * KIB
"""Request line and headers of a handshake: a path, a password of at most 1 KiB and what proxies add. Of all sockets
that have proved nothing together 64 MiB, apart from `PARTIAL_BYTES_MAX`, so that they cannot close those who have."""
CHARGERS_UNAUTHENTICATED_MAX: Final = 8192
"""Chargers' sockets whose handshake is not answered. After an outage 5,000 come at once and may be accepted before the
first of them is read, so the bound of MQTT would close honest ones; past it the longest silent is closed."""
CHARGER_FRAMES_PER_S: Final = 200
"""Frames of one charger taken per second once its burst is spent. The rest waits in its own buffers: an offline queue
of 10,000 messages takes a minute, a charger gone wild 1 % of a core."""
CHARGER_FRAMES_BURST: Final = 1000
CHARGER_UNANSWERED_MAX: Final = 100
"""Calls of one charger waiting for the disk; OCPP-J allows it one (1.6J section 4.1.1), so more is not read for now."""
CHARGER_COMPRESS_BYTES_MIN: Final = 1 * KIB
"""Shorter messages of ours leave as they are (RFC 7692 section 6.1 allows it): compressing costs more than it saves."""
CHARGER_ROUTES_MAX: Final = 256
"""Channels remembered per charger; the three versions together know fewer actions."""
CHARGER_LINGER_S: Final = 5
"""How long a closed socket may take to read what is left and to close its own side before it is aborted."""
DUPLICATE_PROBE_S: Final = 5.0
"""A charger's older connection must answer a ping within this, or a newer one takes its place."""
DUPLICATES_MAX: Final = 3
DUPLICATES_WINDOW_S: Final = 600.0
"""Times that two live connections of one identity may meet within the window; then the identity is in quarantine."""
DUPLICATES_QUARANTINE_S: Final = 600.0
"""For this long no newer connection of that identity takes the place of a live one."""
DUPLICATES_IDENTITIES_MAX: Final = 10_000
"""Identities whose meetings are remembered; past that the one that met longest ago is forgotten."""
REFUSAL_LINES_BURST: Final = 10
"""Log lines about what one station, or one address nobody has authenticated, did wrong; then one in the time below."""
REFUSAL_LINE_REFILL_S: Final = 10.0
REFUSAL_LINES_BURST_ALL: Final = 200
"""The same over all stations and addresses: a fleet with one bad firmware, or an attacker with many names."""
REFUSAL_LINE_REFILL_ALL_S: Final = 0.1

# ---- commands to chargers --------------------------------------------------------------------------------------------
COMMAND_TIMEOUT_S: Final = 30.0
COMMAND_TIMEOUT_S_MAX: Final = 600.0
"""Longest time a charger may be given to answer; its other commands wait meanwhile."""
COMMAND_DEVICES_MAX: Final = 10_000
"""Chargers of one submission: all that one gateway is made for, twice."""
COMMAND_DEVICES_UNCONFIRMED_MAX: Final = 10
"""Chargers that one submission may have without `confirm`: a wrong mass command stops a city."""
COMMANDS_STARTED_AT_ONCE: Final = 50
"""Commands of one submission sent before the loop turns: about 5 ms, so that 5,000 of them delay nobody."""
COMMAND_WAIT_S_MAX: Final = 5.0
"""How long one request may wait for outcomes; half of what the local port gives a request."""
OUTCOMES_KEPT_MAX: Final = 2 * COMMAND_DEVICES_MAX
OUTCOMES_KEPT_BYTES_MAX: Final = 32 * MIB
"""Outcomes of commands to chargers kept in memory; older ones are read from the commands journal."""
LATE_ANSWERS_MAX: Final = COMMAND_DEVICES_MAX
"""Timed out commands whose late answer is still known as one; past that the oldest is forgotten."""
AUDITED_AGAIN_S: Final = 10.0
AUDITED_AGAIN_MAX: Final = 4 * COMMAND_DEVICES_MAX
"""Steps of commands from the last seconds before a restart that are written to the ingest journal once more, because
nobody knows whether they got there; the second of two equal ones is dropped as a duplicate."""

# ---- OCPP messages ---------------------------------------------------------------------------------------------------
OCPP_MESSAGE_ID_CHARS_MAX: Final = 36
"""What all three versions allow: the length of a UUID."""
OCPP_TEXT_STRETCH_MAX: Final = 4
"""How many times its limit a text (or a message id) may be long where strictness is not `strict`."""
OCPP_NESTING_MAX: Final = 32
"""Levels of arrays and objects in a frame. The deepest schema (2.x ReportChargingProfiles) has 14; a bomb thousands."""
OCPP_ERROR_DESCRIPTION_CHARS_MAX: Final = 255
"""`errorDescription` of a CALLERROR, from the specification."""
OCPP_CALLS_REMEMBERED_MAX: Final = 16
"""Answered calls remembered per station for a resend; the oldest is forgotten. A station has one call under way, so
this is the resends of a reconnect and a few of a station that does not wait for its answers."""
OCPP_STATIONS_REMEMBERED_MAX: Final = 2 * CONNECTIONS_MAX
"""Stations whose answered calls are kept, connected or not; the one that connected longest ago is forgotten."""

# ---- journal ---------------------------------------------------------------------------------------------------------
COMMIT_WINDOW_S: Final = 0.003
"""Group commit: wait this long for company. Measured fdatasync 0.2-0.4 ms; 3 ms makes it under 0.1 us a message."""
COMMIT_BYTES: Final = 256 * KIB
"""Group commit: or until this many payload bytes."""
FRAME_BYTES_MAX: Final = 16 * MIB
"""No honest frame is longer, so a corrupt length cannot make the reader allocate more."""
JOURNAL_IN_FLIGHT_BYTES_MAX: Final = 64 * MIB
"""Appended and not yet durable; past that listeners stop reading their sockets."""
JOURNAL_REFUSE_BYTES: Final = 2 * JOURNAL_IN_FLIGHT_BYTES_MAX
"""Past that an append is refused: pausing sockets must have stopped the flow, after one more read of each."""
SEGMENT_BYTES_MAX: Final = 128 * MIB

# ---- processors ------------------------------------------------------------------------------------------------------
BATCH_ROWS_MAX: Final = 65_536
"""Entries processed at once. While catching up, twice as many are a seventh faster and take 220 MB more."""
BATCH_BYTES_MAX: Final = 64 * MIB
RECORDS_PER_PAYLOAD_MAX: Final = 100_000
BATCH_RECORDS_MAX: Final = 1_000_000
"""Records decoded at once, about 0.5 GiB: compressed arrays can hold far more in a batch of `BATCH_BYTES_MAX`."""
UNPACKED_BYTES_MAX: Final = 16 * MIB
"""A gzip or zstd payload that unpacks past this is a reject: 256 KiB can hold 256 MiB of zeros."""
REJECT_PAYLOAD_BYTES_MAX: Final = PAYLOAD_BYTES_MAX
DUPLICATE_KEYS_MAX: Final = 1_000_000
"""Keys remembered per stream, shared evenly by its devices: at 16 B each 16 MB of state."""
REJECT_KEYS_MAX: Final = 100_000
"""Rejects remembered, so that a poison payload sent again is a duplicate and not another reject; 16 B each."""
DEVICES_MAX: Final = 100_000
"""Devices of one stream whose newest values are kept; past it those not heard from for longest are forgotten."""
DETAIL_CHARS_MAX: Final = 32 * KIB
"""JSON text in one column of a row (what a charger's message says besides); the whole message is in `raw`."""
TRANSACTIONS_REMEMBERED_MAX: Final = 100_000
"""Charging transactions whose connector is remembered, for messages that name none; past it the oldest are forgotten.
5,000 chargers with 20 transactions each; about 200 bytes a transaction."""
PANE_SAMPLES_MAX: Final = 10_000
"""Samples of one device in one pane; past it readings stay in the lake, unmerged and counted. 60 s at 100 Hz fit."""
TEXT_CHARS_MAX: Final = 200
"""Peer text in logs, errors and rejects is cut here."""

# ---- charging sessions -----------------------------------------------------------------------------------------------
CHARGING_SESSIONS_MAX: Final = 20_000
"""Sessions remembered, open or ended; past it the ended ones not heard of for longest go first. A fleet of 2,500
chargers with 8 sessions in 48 h fits; a session takes 3 KiB once ended, up to 24 KiB while open."""
SESSION_REMEMBERED_S: Final = 48 * 3600
"""How long after its last word a session may still be mended by what comes late."""
SESSION_SILENT_S: Final = 24 * 3600
"""A session without a word for this long is abandoned."""
SESSION_AVAILABLE_S: Final = 600
"""A session whose connector has been Available for this long, without a word of it, is abandoned. A Stop that a charger
queued comes within minutes of the reconnect."""
SESSION_HELD_S: Final = 600
"""What is said of a transaction nobody started waits this long for its start; then it is an orphan."""
SESSION_SAMPLES_MAX: Final = 512
"""Meter samples kept of a session: 8.5 h at one a minute. Past it every second one goes, again and again."""
SESSION_SAMPLES_ENDED_MAX: Final = 64
"""Samples kept from `SESSION_THINNED_S` after a session's last word: what a late message may still change is little."""
SESSION_THINNED_S: Final = 3600
SESSION_CURVE_POINTS_MAX: Final = 32
SESSION_EVENTS_MAX: Final = 64
"""States, sequence ranges and ends kept of one session, of each the newest; 64 states are an hour of a charger that
toggles every minute."""
SESSION_REVISION_S: Final = 60
"""Shortest time between two revisions of a session that only goes on. Ticks are looked at this often, too."""
SESSION_REVISIONS_SHARE: Final = 16
"""A session that only goes on is shown when it has grown by one part in so many: 60 revisions in 4 h, not 240."""
SESSION_JOINS_MAX: Final = 200
"""Sessions compared with vehicles at one tick, about 1 ms each; the others wait for the next."""
CONNECTORS_MAX: Final = 50_000
"""Connectors whose states and loose meter values are remembered; past it those longest quiet are forgotten."""
CONNECTOR_SAMPLES_MAX: Final = 64
"""Meter values without transaction kept per connector, in case the start of theirs is still to come."""
START_ANSWERS_MAX: Final = 10_000
"""Answers to starts that have not been read yet; the oldest go. The answer follows its start in the journal."""
ASSETS_MAX: Final = 200_000
"""Facts about vehicles and chargers, one a device; past it those stated longest ago are forgotten."""
CHARGE_POWER_MAX_KW: Final = 1_000.0
"""What a register may gain where the charger's rated power is not known: the largest of today's, buses included."""
VEHICLE_TRACK_S: Final = 24 * 3600
"""Charging vehicles are followed for this long, so that one that was offline may still be joined."""
VEHICLE_TRACK_ROWS_MAX: Final = 1_000_000
"""Buckets of 10 s of charging vehicles, 44 bytes each: 44 MB. 500 vehicles that charge for 5 h a day fit whole; with
more the horizon is shorter: 10,000 that all charge at once are followed for 17 min."""
VEHICLE_PLACES_MAX: Final = 500_000
"""Hours that vehicles stood at a place, 32 bytes each; past it the oldest go."""

# ---- Alerts ----------------------------------------------------------------------------------------------------------
EVIDENCE_BYTES_MAX: Final = 4 * KIB
"""JSON of a finding's evidence: 30 readings, 10 functions and a history of 20 points are about 2 KiB."""
RULE_PREVIOUS_S: Final = 300.0
"""How long ago the reading before may be for `previous(x)`, unless the rule states its own `needs`: a state of charge
that differs after a night tells of no jump."""
RULES_PER_STREAM_MAX: Final = 200
"""Rules of one contract. Each condition is computed for every reading of the stream."""
RULE_TOKENS_MAX: Final = 200
"""Words, numbers and signs of one condition; what is longer nobody understands at night."""
RULE_SPAN_S_MAX: Final = 3600.0
"""Longest span of a function of the past; what is slower needs the long memory of a detector."""
RULE_WAIT_S_MAX: Final = 7 * 24 * 3600.0
"""Longest `for`, `clear_for`, `needs` and `within` of a rule."""
RULE_STEPS_MAX: Final = 8
"""Conditions of one sequence."""
ALERTS_OPEN_MAX: Final = 20_000
"""Alerts that are open, or resolved by an operator while their condition still holds: two for each of 10,000 devices.
Past it a finding is counted and no alert. About 1 KiB each."""
ALERTS_CRITICAL_RESERVE: Final = 4_000
"""Of these the last, which only critical findings may take: an outage of the network makes every vehicle silent."""
ALERTS_PER_DEVICE_MAX: Final = 64
"""The same for one device with all its parts: a charger with 4 connectors and 16 rules each."""
ALERTS_RESOLVED_MAX: Final = 20_000
"""Resolved alerts remembered, one for each device, part and rule; past it the one resolved longest ago is forgotten."""
ALERT_REOPEN_S: Final = 600
"""An alert whose rule holds again this soon after its end is the same one; on-call people want one page for a loose
contact, not twenty. Twice Alertmanager's default `group_interval` and `resolve_timeout` of 5 min."""
ALERT_MATCHERS_MAX: Final = 16
ALERT_MATCHER_CHARS_MAX: Final = 300
"""Matchers of one silence, and the longest: a label and a value as long as an identity may be, with room to spare."""
SILENCES_MAX: Final = 1_000
"""Silences that have not ended; past it an order for another is refused and counted."""
SILENCE_S_MAX: Final = 366 * 24 * 3600
"""Longest silence, and how far ahead one may begin: what is silent for ever is a rule to switch off."""

ANOMALY_DEVICES_MAX: Final = 50_000
"""Devices (or parts) of one stream whose own history is kept, about 0.6 KiB for each rule; past it those longest quiet,
of them first the ones without an open finding, are forgotten and begin anew when they come back."""
ANOMALY_SAMPLES_MAX: Final = 500_000
"""Samples of one rule that wait for the next tick, 40 bytes each; past it readings are not sampled until then. 50,000
devices have as many in 10 min at one a minute, and ticks come every few seconds."""
ANOMALY_ROUNDS_MAX: Final = 1_440
"""Samples of one device looked at at one tick, a day of one a minute, about 0.2 s; the others wait for the next."""
PEER_BINS_MAX: Final = 4_096
"""Like conditions of one rule in which peers are remembered; past it those longest not met are forgotten."""
PEERS_KEPT: Final = 64
"""Devices remembered in like conditions, each with its newest value: with 64 the median is known to a sixth of the
spread, and a bin takes 1 KiB."""

# ---- who is told -----------------------------------------------------------------------------------------------------
RECEIVERS_MAX: Final = 100
ROUTES_MAX: Final = 200
ESCALATIONS_MAX: Final = 50
MAINTENANCE_MAX: Final = 200
"""Entries of each section of `alerts.yaml`. An alert is held against all of them when it fires: about 0.2 ms."""
RECEIVERS_PER_ROUTE_MAX: Final = 10
MAIL_ADDRESSES_MAX: Final = 20
"""Addresses of one receiver; more people are a mailing list."""
HEADERS_MAX: Final = 16
"""Headers that a receiver adds to its requests."""
NOTICE_WAIT_S_MAX: Final = 3600
"""How long news may wait for company."""
NOTICE_INTERVAL_S_MAX: Final = 24 * 3600
NOTICE_REPEAT_S_MIN: Final = 60
NOTICE_REPEAT_S_MAX: Final = 30 * 24 * 3600
ESCALATION_S_MAX: Final = 7 * 24 * 3600
ALERTS_ROUTED_MAX: Final = 2 * ALERTS_OPEN_MAX
"""Alerts that routes know, open or resolved and not yet told; past it one more is counted, shown, and told to nobody.
The life cycle has half as many open, and a resolution is told after `interval`."""
NOTICE_GROUPS_MAX: Final = 20_000
"""Groups of alerts over all receivers; past it what would begin another goes into one group per route, receiver and
tenant: its notices are coarser, and none is missing."""
NOTICE_MEMBERS_MAX: Final = 200_000
"""Alerts in groups, one for each receiver of each, 150 bytes each; past it one more is counted and not told."""
NOTICE_NEWS_MAX: Final = 500
"""Alerts in one notice, the worst first; the others follow in the next, `interval` later."""
TESTS_QUEUED_MAX: Final = 100
"""Test notices ordered and not yet made; past it one more is counted."""

# ---- delivery of notices ---------------------------------------------------------------------------------------------
NOTICES_QUEUED_MAX: Final = 1_000
"""Notices waiting for one receiver; past it the oldest becomes a dead letter, because people need the newest state."""
NOTICES_SENT_KEPT: Final = 5_000
NOTICES_DEAD_KEPT: Final = 5_000
"""Notices kept to be looked at after they were sent, or given up; past it the oldest go. 3 KiB each is usual."""
ALERT_ROWS_MAX: Final = ALERTS_ROUTED_MAX
"""Alerts that `voltgate alerts` can show: all that routes may know; past it resolved ones go first, oldest first."""
SILENCE_ROWS_MAX: Final = 2 * SILENCES_MAX
CHARGERS_WATCHED_MAX: Final = 20_000
"""Chargers whose state the rules remember, with two connectors 0.8 KiB each in a checkpoint; past it the sixteenth of
them that was quiet longest is forgotten, and what was told of them ends."""
CHARGER_PLACES_MAX: Final = 64
"""Connectors, in 2.x EVSEs, that the rules watch of one charger; what it says of more is not watched."""
NOTICE_ALERTS_MAX: Final = 20
"""Alerts in one body of a generic webhook, about 100 KiB; a notice of more alerts is sent in parts."""
NOTICE_ALERTS_SHOWN_MAX: Final = 10
"""Alerts that a message for people tells in full; it says how many more there are. Slack takes 50 blocks."""
NOTICE_ALERTS_SHOWN_TEAMS_MAX: Final = 5
"""The same for Teams, which refuses messages over 28 KiB."""
NOTICE_TEXT_CHARS_MAX: Final = 500
"""One line of a message for people."""
NOTICE_READINGS_MAX: Final = 12
"""Readings of one alert that a message for people shows."""
NOTICE_TTL_S: Final = 24 * 3600
"""A notice that could not be delivered for so long is a dead letter; `voltgate alerts` lists and retries those."""
NOTICE_RETRY_FIRST_S: Final = 2.0
NOTICE_RETRY_S_MAX: Final = 300.0
"""Pauses between tries double from the first to the last, each drawn evenly from zero up to it (full jitter)."""
NOTICE_RETRY_AFTER_S_MAX: Final = 3600.0
"""Longest wait that a receiver may ask for with Retry-After."""
NOTICE_DOUBTS_MAX: Final = 5
"""Tries of a notice that is refused for a reason that may be a passing mistake: most 4xx, a private address."""
NOTICES_IN_FLIGHT_MAX: Final = 4
"""Notices under way to one receiver at once; those of one group go one after the other."""
CIRCUIT_FAILURES: Final = 5
"""Failures in a row after which a receiver is left alone for a while."""
CIRCUIT_OPEN_FIRST_S: Final = 5.0
CIRCUIT_OPEN_S_MAX: Final = 60.0
"""How long, doubling with each probe that fails."""
WEBHOOK_ANSWER_BYTES_MAX: Final = 4 * KIB
"""Bytes read of a receiver's answer, for the reason it gives; the rest is not read."""
WEBHOOK_LOOKUPS_MAX: Final = 64
"""Threads for names of receivers: a resolver that hangs keeps one for each receiver that waits for it."""
RESULTS_ROWS_MAX: Final = 2_000
"""Entries of the results journal taken at once by the notifier."""
OUTBOX_BUSY_S: Final = 5.0
"""How long a write waits for the one of another process; a command line holds the lock for milliseconds."""
OUTBOX_DAMAGED_KEPT: Final = 2
"""Damaged notice databases kept for inspection; an older one is deleted when another is moved aside."""

# ---- OpenSearch ------------------------------------------------------------------------------------------------------
DOCUMENT_BYTES_MAX: Final = 8 * MIB
"""Largest document that is sent, with its action line; one that is larger is a reject. Small managed clusters take
requests up to 10 MiB; the largest honest document has some 100 KiB."""
DOCUMENT_ID_BYTES_MAX: Final = 512
"""What OpenSearch allows; a longer id becomes its hash."""
KEYWORD_CHARS_MAX: Final = 1_024
"""Longer text is in its document and not found by its value; the engine refuses terms over 32,766 bytes."""
INDEX_FIELDS_MIN: Final = 1_000
"""Fields that an index may have, as its own default; more where contracts are long."""

INDEX_LAG_MARKS_MAX: Final = 1_000
"""Commits of one table whose time is remembered while they wait for the index; past that, newer ones count as old as
the last."""
INDEX_CHUNK_ROWS_MAX: Final = 20_000
"""Rows of a lake table that are read, sent and waited for at a time: some 20 MB with their documents, and a second of
work. Rows of one journal entry stay together, so one entry may exceed it by what it caused."""
INDEX_CUTS_MAX: Final = 50
"""Chunks of a table that are planned at once: a million offsets, 8 MB, looked at once instead of once a chunk."""
INDEX_REJECT_BYTES_MAX: Final = 64 * KIB
"""A refused document is kept as a reject up to this size; of a longer one only the reason, its row is in the lake."""

QUERY_DEVICES_MAX: Final = 100
"""Devices in one answer of the console's questions: each has a state per stream and part."""
QUERY_STATES_MAX: Final = 10_000
"""States of devices in one answer; what an index gives at once. A charger with many connectors has some hundred."""
QUERY_PAGE_ROWS_MAX: Final = 1_000
"""Rows in one answer; a cursor gives the next ones."""
QUERY_FILTER_VALUES_MAX: Final = 100
"""Values that one filter of a question may name."""
QUERY_REASONS_MAX: Final = 1_000
"""Reasons of rejects counted in one answer; our code knows about 40 in some stages."""
INDEX_ANSWER_BYTES_MAX: Final = 64 * MIB
"""Largest answer that is read: 20,000 refused documents with their reasons are about 10 MiB."""
INDEX_CONNECT_TIMEOUT_S: Final = 10.0
"""How long a connection may take to be made; a host that is gone says nothing."""
INDEX_SURE_S: Final = 2.0
"""After such a silence of a cluster it is asked who it is: no node stops, loses its disk and starts again faster."""
INDEX_REQUESTS_MAX: Final = 16
"""Most bulk requests in flight that a setting may ask for; a node queues what its cores do not take at once."""
INDEX_RETRY_FIRST_S: Final = 0.5
INDEX_RETRY_S_MAX: Final = 8.0
"""Pauses between tries double from the first to the last (full jitter): once the cluster is back, it is noticed within
seconds, and one that drowns is asked less than once in four seconds on average."""
INDEX_FAULTS_MAX: Final = 5
"""Tries in a row after which a document on which the engine itself fails (500) is refused, if it takes another one."""
INDEX_RETRY_AFTER_S_MAX: Final = 60.0
"""Longest wait that a cluster may ask for with Retry-After."""
INDICES_KNOWN_MAX: Final = 2_000
"""Indices remembered as made; past it the memory is emptied, and each costs a request again. More than a cluster likes
to have."""
INDEX_NAMES_PER_REQUEST: Final = 30
"""Names of indices in one address: the first line of a request may have 4,096 bytes, a name 100."""
INDEX_DELETE_DOCUMENTS_MAX: Final = 10_000
"""Documents that one delete-by-query may take, about a second; it is repeated until there are none."""

# ---- admission -------------------------------------------------------------------------------------------------------
IDENTITY_BYTES_MAX: Final = 128
"""Tenant, device id, username: a level of a topic and a value in every row, so shorter than MQTT allows."""
PASSWORD_BYTES_MAX: Final = 1 * KIB
PASSWORD_BYTES_MIN: Final = 8
CHARGER_PASSWORD_BYTES_MIN: Final = 16
CHARGER_PASSWORD_BYTES_MAX: Final = 40
"""A charger's password: BasicAuthPassword of OCPP 2.0.1 has 16 to 40 characters, AuthorizationKey of 1.6 16 to 20."""
VERIFY_THREADS: Final = 4
"""argon2id costs about 30 ms of a core and 19 MiB a verification; more threads would only starve the loop."""
VERIFY_QUEUE_MAX: Final = 256
"""Logins waiting for a verification: about 4 s of work, below the connect timeout. The next one is refused."""
STATION_VERIFY_QUEUE_MAX: Final = 4_096
"""The same for chargers: all that a listen backlog holds. A password that Voltgate made takes under 1 ms, so 2-3 s."""
VERIFIED_MAX: Final = 50_000
"""Verified logins remembered, so that a fleet reconnecting after an outage costs a hash of 1 us and not argon2id."""
VERIFIED_TTL_S: Final = 300.0
LOGIN_FAILURES_BURST: Final = 10
"""Failed logins that one username may have at once from one address; then one in `LOGIN_FAILURE_REFILL_S`."""
LOGIN_FAILURE_REFILL_S: Final = 6.0
ADDRESS_FAILURES_BURST: Final = 100
"""The same for an address whatever the username. Higher: a whole fleet may stand behind one address translator."""
ADDRESS_FAILURE_REFILL_S: Final = 1.0
FAILURE_BUCKETS_MAX: Final = 10_000
"""Usernames and addresses whose failures are remembered; past that the longest quiet one is forgotten."""

TRANSACTION_ID_MAX: Final = 2**31 - 1
"""Largest transaction id of OCPP 1.6: chargers keep it in a signed 32 bit integer."""
TRANSACTION_IDS_BLOCK: Final = 1_000
"""Transaction ids reserved by one disk write; a restart wastes at most so many of two thousand million."""

# ---- registry, configuration, control routes -------------------------------------------------------------------------
CONFIG_BYTES_MAX: Final = 1 * MIB
NOTE_CHARS_MAX: Final = 500
CONTROL_BODY_BYTES_MAX: Final = COMMAND_DEVICES_MAX * (IDENTITY_BYTES_MAX + 4) + COMMAND_BYTES_MAX + 4 * KIB
"""A body of a POST: a command with the longest names of all its chargers; more than the largest payload in base64."""
CONTROL_REQUEST_TIMEOUT_S: Final = 10.0
"""A client of the metrics and control port that has not sent its request, or read its answer, by then is closed."""
CONTROL_THREADS_MAX: Final = 16
"""Requests of the metrics and control port answered at once; the next connection is closed."""
METRIC_REASONS_MAX: Final = 100
"""Distinct reasons of one counter; our code knows about 40, so past this something of a peer leaked into a reason."""
