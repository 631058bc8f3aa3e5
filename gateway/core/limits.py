"""Every bound in one place, each derived or with its source. Nothing in Voltgate grows without one."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# ---- MQTT -------------------------------------------------------------------------------------------------------------
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
"""Sockets before CONNECT; the next one is closed at accept, so 10,000 silent sockets cost 1,000 slots for 10 s."""
WRITE_BUFFER_BYTES_MAX: Final = 256 * KIB
"""A peer that does not read its acknowledgements is closed past this."""
COMMANDS_QUEUED_MAX: Final = 100
"""Commands waiting for one offline device; the oldest is expired and counted past this."""
COMMAND_EXPIRY_S: Final = 3600.0

# ---- journal ----------------------------------------------------------------------------------------------------------
COMMIT_WINDOW_S: Final = 0.003
"""Group commit: wait this long for company. Measured fdatasync 0.2-0.4 ms; 3 ms makes it under 0.1 us a message."""
COMMIT_BYTES: Final = 256 * KIB
"""Group commit: or until this many payload bytes."""
FRAME_BYTES_MAX: Final = 16 * MIB
"""No honest frame is longer, so a corrupt length cannot make the reader allocate more."""
JOURNAL_IN_FLIGHT_BYTES_MAX: Final = 64 * MIB
"""Appended and not yet durable; past that listeners stop reading their sockets."""
SEGMENT_BYTES_MAX: Final = 128 * MIB

# ---- processors -------------------------------------------------------------------------------------------------------
BATCH_ROWS_MAX: Final = 131_072
BATCH_BYTES_MAX: Final = 64 * MIB
RECORDS_PER_PAYLOAD_MAX: Final = 100_000
UNPACKED_BYTES_MAX: Final = 16 * MIB
"""A gzip or zstd payload that unpacks past this is a reject: 256 KiB can hold 256 MiB of zeros."""
REJECT_PAYLOAD_BYTES_MAX: Final = PAYLOAD_BYTES_MAX
DUPLICATE_KEYS_MAX: Final = 1_000_000
"""Keys remembered per stream, shared evenly by its devices: at 16 B each 16 MB of state."""
TEXT_CHARS_MAX: Final = 200
"""Peer text in logs, errors and rejects is cut here."""
