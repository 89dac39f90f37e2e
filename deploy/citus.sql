-- Distributes the tables of a warehouse over the workers of a Citus cluster, by account. Run it on the coordinator as the owner of
-- the tables, after anticaptcha-etl migrate; it may be run again at any time. docs/how-to/citus.md shows each step.
--
-- Every key begins with account_id and every join uses it, so that all rows of an account are on one worker. accounts is small and
-- looked up by name: each worker has a copy. alembic_version, warehouse and rate_limits stay on the coordinator. Citus distributes
-- views and functions by itself.
create extension if not exists citus;

select create_reference_table('internal.accounts')
 where not exists (select from pg_dist_partition where logicalrelid = 'internal.accounts'::regclass);

select create_distributed_table('internal.series', 'account_id')
 where not exists (select from pg_dist_partition where logicalrelid = 'internal.series'::regclass);

select create_distributed_table(name, 'account_id', colocate_with => 'internal.series')
  from unnest(array['internal.member_statuses', 'internal.unknown_name_behaviours', 'internal.runs', 'internal.responses',
                    'internal.snapshots', 'internal.facts', 'internal.over_allocated_hours', 'internal.revisions',
                    'internal.rejections', 'internal.day_coverage', 'internal.probes', 'internal.findings',
                    'internal.day_checks', 'internal.balances', 'internal.alerts']) as name
 where not exists (select from pg_dist_partition where logicalrelid = name::regclass);
