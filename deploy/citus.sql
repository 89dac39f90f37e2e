-- Distributes the tables of a warehouse over a Citus cluster, by account. Not run by the tests, which have no Citus.
--
-- Run it once as the owner of the tables, after the first anticaptcha-etl migrate or sync. Every primary key begins with
-- account_id and every join carries it, so each account's statements stay on one machine; accounts is small and is copied to
-- all. Views and functions need nothing.
--
-- For reading only: Citus 13 refuses MERGE ... RETURNING (its pull request 7781), by which a sync writes facts. Fill the warehouse
-- with anticaptcha-etl transfer before these statements. A sync takes an advisory lock, so all of them must connect to the
-- coordinator.
create extension if not exists citus;

select create_reference_table('internal.accounts');

select create_distributed_table('internal.series',                   'account_id');
select create_distributed_table('internal.member_statuses',          'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.unknown_name_behaviours',  'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.runs',                     'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.responses',                'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.snapshots',                'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.facts',                    'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.over_allocated_hours',     'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.revisions',                'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.rejections',               'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.day_coverage',             'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.probes',                   'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.findings',                 'account_id', colocate_with => 'internal.series');
