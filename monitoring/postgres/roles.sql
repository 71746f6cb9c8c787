-- Who looks, and may not change anything. Run once, when compose.yaml's Postgres is created, in its database; on any other, by its owner.
CREATE ROLE grafana LOGIN PASSWORD 'grafana' IN ROLE pg_read_all_data;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '10s';
CREATE ROLE exporter LOGIN PASSWORD 'exporter' IN ROLE pg_monitor;
