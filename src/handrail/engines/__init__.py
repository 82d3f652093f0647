"""The engines that Handrail runs on, launched from this machine without Docker.

`postgres.LocalPostgres`, `valkey.LocalValkey` and `kafka.LocalKafka` share one shape: `await X.start(data_dir)`, then
`stop`, `kill`, `restart`, `wait` and `pid`. A data directory belongs to one instance at a time; an engine never outlives
the process that started it. Linux and macOS.
"""
