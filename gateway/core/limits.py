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
PANE_SAMPLES_MAX: Final = 10_000
"""Samples of one device in one pane; past it readings stay in the lake, unmerged and counted. 60 s at 100 Hz fit."""
TEXT_CHARS_MAX: Final = 200
"""Peer text in logs, errors and rejects is cut here."""

# ---- admission -------------------------------------------------------------------------------------------------------
IDENTITY_BYTES_MAX: Final = 128
"""Tenant, device id, username: a level of a topic and a value in every row, so shorter than MQTT allows."""
PASSWORD_BYTES_MAX: Final = 1 * KIB
PASSWORD_BYTES_MIN: Final = 8
VERIFY_THREADS: Final = 4
"""argon2id costs about 30 ms of a core and 19 MiB a verification; more threads would only starve the loop."""
VERIFY_QUEUE_MAX: Final = 256
"""Logins waiting for a verification: about 4 s of work, below the connect timeout. The next one is refused."""
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
CONTROL_BODY_BYTES_MAX: Final = 4 * PAYLOAD_BYTES_MAX // 3 + 4 * KIB
"""A body of a POST: the largest payload in base64 and the words around it."""
CONTROL_REQUEST_TIMEOUT_S: Final = 10.0
"""A client of the metrics and control port that has not sent its request, or read its answer, by then is closed."""
CONTROL_THREADS_MAX: Final = 16
"""Requests of the metrics and control port answered at once; the next connection is closed."""
METRIC_REASONS_MAX: Final = 100
"""Distinct reasons of one counter; our code knows about 40, so past this something of a peer leaked into a reason."""
