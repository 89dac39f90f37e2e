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

select create_reference_table('accounts');

select create_distributed_table('series',         'account_id');
select create_distributed_table('names',          'account_id', colocate_with => 'series');
select create_distributed_table('lessons',        'account_id', colocate_with => 'series');
select create_distributed_table('runs',           'account_id', colocate_with => 'series');
select create_distributed_table('answers',        'account_id', colocate_with => 'series');
select create_distributed_table('readings',       'account_id', colocate_with => 'series');
select create_distributed_table('facts',          'account_id', colocate_with => 'series');
select create_distributed_table('contradictions', 'account_id', colocate_with => 'series');
select create_distributed_table('revisions',      'account_id', colocate_with => 'series');
select create_distributed_table('rejections',     'account_id', colocate_with => 'series');
select create_distributed_table('days',           'account_id', colocate_with => 'series');
select create_distributed_table('probes',         'account_id', colocate_with => 'series');
select create_distributed_table('findings',       'account_id', colocate_with => 'series');
