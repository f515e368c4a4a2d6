-- No column of the books rounds. Rounding to 8 places took 9 % of a position at a price of 4.567e-8, and made a price below 5e-9
-- nothing.

-- Taking the scale off a numeric column changes the catalogue only: no row is written anew. PostgreSQL refuses it while a view
-- shows the column, so plain views are made again as they were; what else depends on a column is named, and nothing is done. The
-- functions for that are dropped below: temporary ones need a right that a login may lack.
create or replace function public.exact_numbers_rounding_columns() returns table (table_oid oid, name text, number smallint)
language sql stable as $$
  select c.oid, a.attname::text, a.attnum
  from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
    and (
      c.relname in ('positions', 'trades', 'fills', 'strategy_ledger', 'equity_points', 'reconciliation_differences')
      or c.relname = 'ai_trade_log' and a.attname = 'actual_pnl' -- a sum of cents without a largest one
    )
    and a.atttypid = 'numeric'::regtype and a.atttypmod <> -1
$$;

-- Views over these columns, and views over those; a view has a greater depth than all that it shows.
create or replace function public.exact_numbers_dependent_views() returns table (oid oid, depth integer)
language sql stable as $$
  with recursive found as (
    select r.ev_class as oid, 1 as depth
    from public.exact_numbers_rounding_columns() t
    join pg_catalog.pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.table_oid and d.refobjsubid = t.number
    join pg_catalog.pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid and r.ev_class <> t.table_oid
    union
    select r.ev_class, f.depth + 1
    from found f
    join pg_catalog.pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = f.oid
    join pg_catalog.pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid and r.ev_class <> f.oid
  )
  select f.oid, max(f.depth) from found f group by f.oid
$$;

-- What cannot be made again: materialized views, and views with triggers, rules, rights on columns or functions of their own;
-- policies, triggers, functions and publications that name a column.
create or replace function public.exact_numbers_obstacles() returns text
language sql stable as $$
  select string_agg(u.what, '; ' order by u.what) from (
    select pg_catalog.pg_describe_object('pg_class'::regclass, v.oid, 0) || ' uses a column of the books' as what
    from public.exact_numbers_dependent_views() v join pg_catalog.pg_class c on c.oid = v.oid join pg_catalog.pg_type y on y.typrelid = v.oid
    where c.relkind <> 'v'
      or exists (select from pg_catalog.pg_attribute a where a.attrelid = v.oid and a.attacl is not null)
      or exists (select from pg_catalog.pg_rewrite r where r.ev_class = v.oid and r.rulename <> '_RETURN')
      or exists (
        select from pg_catalog.pg_depend d where d.classid not in ('pg_rewrite'::regclass, 'pg_type'::regclass) and (
          d.refclassid = 'pg_class'::regclass and d.refobjid = v.oid
          or d.refclassid = 'pg_type'::regclass and d.refobjid in (y.oid, y.typarray)
        )
      )
    union
    select pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) || ' uses a column of the books'
    from public.exact_numbers_rounding_columns() t
    join pg_catalog.pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.table_oid and d.refobjsubid = t.number
    where d.classid in ('pg_policy'::regclass, 'pg_trigger'::regclass, 'pg_proc'::regclass, 'pg_publication_rel'::regclass)
  ) u
$$;

create or replace function public.exact_numbers_described_view(p_oid oid) returns jsonb
language sql stable as $$
  select jsonb_build_object(
    'name', p_oid::regclass::text, 'options', array_to_string(c.reloptions, ', '),
    'owner', quote_ident(pg_catalog.pg_get_userbyid(c.relowner)), 'definition', pg_catalog.pg_get_viewdef(p_oid),
    'comment', pg_catalog.obj_description(p_oid, 'pg_class'),
    'comments', (
      select coalesce(jsonb_object_agg(quote_ident(a.attname), pg_catalog.col_description(p_oid, a.attnum)), '{}')
      from pg_catalog.pg_attribute a
      where a.attrelid = p_oid and a.attnum > 0 and pg_catalog.col_description(p_oid, a.attnum) is not null
    ),
    'grants', (
      select coalesce(jsonb_agg(format(
        'grant %s on %s to %s%s', g.privilege_type, p_oid::regclass,
        case g.grantee when 0 then 'public' else quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) end,
        case when g.is_grantable then ' with grant option' else '' end
      )), '[]')
      from pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) g
    )
  )
  from pg_catalog.pg_class c where c.oid = p_oid
$$;

create or replace function public.exact_numbers_make_view(p_view jsonb) returns void
language plpgsql as $$
declare
  v_name text := p_view ->> 'name';
  v_row record;
begin
  execute format('create view %s %s as %s', v_name, 'with (' || nullif(p_view ->> 'options', '') || ')', p_view ->> 'definition');
  execute format('alter view %s owner to %s', v_name, p_view ->> 'owner');
  for v_row in -- what default privileges have given
    select distinct case g.grantee when 0 then 'public' else quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) end as name
    from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) g where c.oid = v_name::regclass
  loop
    execute format('revoke all on %s from %s', v_name, v_row.name);
  end loop;
  for v_row in select g.value as statement from jsonb_array_elements_text(p_view -> 'grants') g
  loop
    execute v_row.statement;
  end loop;
  execute format('comment on view %s is %L', v_name, p_view ->> 'comment');
  for v_row in select e.key, e.value from jsonb_each_text(p_view -> 'comments') e
  loop
    execute format('comment on column %s.%s is %L', v_name, v_row.key, v_row.value);
  end loop;
end
$$;

do $$
declare
  v_obstacles text := public.exact_numbers_obstacles();
  v_views jsonb;
  v_row record;
begin
  if v_obstacles is not null then
    raise exception '%: drop it, migrate, and make it again', v_obstacles;
  end if;
  select coalesce(jsonb_agg(public.exact_numbers_described_view(v.oid) order by v.depth, v.oid), '[]') into v_views
    from public.exact_numbers_dependent_views() v;
  for v_row in select w.value ->> 'name' as name from jsonb_array_elements(v_views) with ordinality w order by w.ordinality desc
  loop
    execute 'drop view ' || v_row.name;
  end loop;
  for v_row in
    select t.table_oid, string_agg(format('alter %I type numeric', t.name), ', ') as changes
    from public.exact_numbers_rounding_columns() t group by t.table_oid
  loop
    execute format('alter table %s %s', v_row.table_oid::regclass, v_row.changes);
  end loop;
  for v_row in select w.value as told from jsonb_array_elements(v_views) with ordinality w order by w.ordinality
  loop
    perform public.exact_numbers_make_view(v_row.told);
  end loop;
end
$$;

drop function public.exact_numbers_make_view(jsonb);
drop function public.exact_numbers_described_view(oid);
drop function public.exact_numbers_obstacles();
drop function public.exact_numbers_dependent_views();
drop function public.exact_numbers_rounding_columns();

-- A numeric without a scale may be NaN or infinite. A fill is none of them, and all else in the books comes from fills and
-- prices. Positions and trades have no such rule: rows of the original system may hold anything, and must stay editable.
do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint c
    where c.conrelid = 'public.fills'::regclass and c.conname = 'fills_figures_check'
  ) then
    alter table public.fills add constraint fills_figures_check check (
      quantity < 'Infinity' and price < 'Infinity' and fee_usd > '-Infinity' and fee_usd < 'Infinity'
    ) not valid; -- NaN is above infinity
  end if;
end
$$;

notify pgrst, 'reload schema';
