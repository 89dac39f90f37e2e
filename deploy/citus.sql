-- Splits the tables of a warehouse over the machines of a Citus cluster, by account. Not run by the tests: there is no Citus here.
--
-- Once, after the first anticaptcha-etl migrate (or sync) made the tables, as their owner. Every primary key begins with account_id
-- and every join carries it, so that each account's statements stay on one machine; accounts is small and stands on all.
-- Views and functions need nothing.
--
-- For a warehouse that is read: Citus 13 refuses MERGE ... RETURNING (its pull request 7781), by which a sync writes facts. Fill it by
-- anticaptcha-etl transfer before these statements. Where a sync can write, it locks its account by an advisory lock of the
-- coordinator: all must connect to that.
create extension if not exists citus;

select create_reference_table('internal.accounts');

select create_distributed_table('internal.series',         'account_id');
select create_distributed_table('internal.member_statuses',          'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.unknown_name_behaviours',        'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.runs',           'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.responses',        'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.snapshots',       'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.facts',          'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.over_allocated_hours', 'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.revisions',      'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.rejections',     'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.day_coverage',           'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.probes',         'account_id', colocate_with => 'internal.series');
select create_distributed_table('internal.findings',       'account_id', colocate_with => 'internal.series');
