#!/bin/sh
# The topics of pinflow, for brokers where programs may not create any. Elsewhere pinflow does this when it starts.
# With the variables of docs/configuration.md set as for pinflow itself:
#   docker compose exec -T redpanda sh < redpanda/topics.sh
set -eu

topic=${PIN_TOPIC:-pins}
partitions=${PARTITIONS:-3}
replicas=${KAFKA_REPLICATION:-1}
hours=${RETENTION_HOURS:-168}
bytes=${RETENTION_BYTES:-4294967296}
pin_bytes=${MAX_PIN_BYTES:-2097152}

# A dead letter is its pin as text within JSON: up to twice as long, and some words.
max_message_bytes=$((2 * pin_bytes + 65536))

create() { # create TOPIC PARTITIONS RETENTION_MS
  rpk topic create "$1" --if-not-exists --partitions "$2" --replicas "$replicas" \
    --topic-config "retention.ms=$3" \
    --topic-config "retention.bytes=$(((bytes + $2 - 1) / $2))" \
    --topic-config "max.message.bytes=$max_message_bytes"
}

# retention.bytes counts for each partition, RETENTION_BYTES for the whole topic.
create "$topic" "$partitions" $((hours * 3600000))

# One partition, so that letters are in one order; kept a year, as they wait for a person.
create "$topic.dlq" 1 $((365 * 24 * 3600000))
