-- Prices, quantities and money of the books are exact: no column rounds, products have all their digits, and a quotient has 28
-- significant ones. Rounding to 8 places took 9 % of a position at a price of 4.567e-8, and made a price below 5e-9 nothing.

-- Taking the scale off a numeric column changes the catalogue only: no row is written anew. PostgreSQL refuses it while a view
-- shows the column, so plain views are made again as they were; what else depends on a column is named, and nothing is done.
create or replace function pg_temp.rounding_columns() returns table (table_oid oid, name text, number smallint)
language sql stable as $$
  select c.oid, a.attname::text, a.attnum
  from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
    and c.relname in ('positions', 'trades', 'fills', 'strategy_ledger', 'equity_points', 'reconciliation_differences')
    and a.atttypid = 'numeric'::regtype and a.atttypmod <> -1
$$;

-- Views over these columns, and views over those; a view has a greater depth than all that it shows.
create or replace function pg_temp.dependent_views() returns table (oid oid, depth integer)
language sql stable as $$
  with recursive found as (
    select r.ev_class as oid, 1 as depth
    from pg_temp.rounding_columns() t
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
create or replace function pg_temp.obstacles() returns text
language sql stable as $$
  select string_agg(u.what, '; ' order by u.what) from (
    select pg_catalog.pg_describe_object('pg_class'::regclass, v.oid, 0) || ' uses a column of the books' as what
    from pg_temp.dependent_views() v join pg_catalog.pg_class c on c.oid = v.oid join pg_catalog.pg_type y on y.typrelid = v.oid
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
    from pg_temp.rounding_columns() t
    join pg_catalog.pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.table_oid and d.refobjsubid = t.number
    where d.classid in ('pg_policy'::regclass, 'pg_trigger'::regclass, 'pg_proc'::regclass, 'pg_publication_rel'::regclass)
  ) u
$$;

create or replace function pg_temp.described_view(p_oid oid) returns jsonb
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

create or replace function pg_temp.make_view(p_view jsonb) returns void
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
  v_obstacles text := pg_temp.obstacles();
  v_views jsonb;
  v_row record;
begin
  if v_obstacles is not null then
    raise exception '%: drop it, migrate, and make it again', v_obstacles;
  end if;
  select coalesce(jsonb_agg(pg_temp.described_view(v.oid) order by v.depth, v.oid), '[]') into v_views
    from pg_temp.dependent_views() v;
  for v_row in select w.value ->> 'name' as name from jsonb_array_elements(v_views) with ordinality w order by w.ordinality desc
  loop
    execute 'drop view ' || v_row.name;
  end loop;
  for v_row in
    select t.table_oid, string_agg(format('alter %I type numeric', t.name), ', ') as changes
    from pg_temp.rounding_columns() t group by t.table_oid
  loop
    execute format('alter table %s %s', v_row.table_oid::regclass, v_row.changes);
  end loop;
  for v_row in select w.value as told from jsonb_array_elements(v_views) with ordinality w order by w.ordinality
  loop
    perform pg_temp.make_view(v_row.told);
  end loop;
end
$$;

drop function pg_temp.make_view(jsonb);
drop function pg_temp.described_view(oid);
drop function pg_temp.obstacles();
drop function pg_temp.dependent_views();
drop function pg_temp.rounding_columns();

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

-- The number, or null for NaN and infinity.
create or replace function public.figure(p_value numeric) returns numeric
language sql immutable strict set search_path = '' as $$
  select case when p_value > '-Infinity' and p_value < 'Infinity' then p_value end
$$;

-- Division to 28 significant digits, half-even, as `engine.booked.quotient` does it; PostgreSQL's own ends after 16.
create or replace function public.quotient(p_dividend numeric, p_divisor numeric) returns numeric
language plpgsql immutable strict set search_path = '' as $$
declare
  v_value numeric := p_dividend / p_divisor;
  v_places integer := 28;
begin
  if v_value = 0 or public.figure(v_value) is null then
    return v_value;
  end if;
  for v_time in 1..2 loop -- the first value says where the digits begin, and has too few of them
    v_places := 28 - case when abs(v_value) >= 1 then length(trunc(abs(v_value))::text)
      else length(ltrim(split_part(abs(v_value)::text, '.', 2), '0')) - length(split_part(abs(v_value)::text, '.', 2)) end;
    v_value := round(p_dividend, greatest(scale(p_dividend), v_places + 20)) / p_divisor; -- as many places as its dividend
  end loop;
  return trim_scale(public.round_half_even(v_value, v_places));
end
$$;

create or replace function public.open_position(p_fill public.fills, p_details jsonb) returns public.positions
language sql set search_path = '' as $$
  insert into public.positions (
    user_id, exchange, symbol, side, strategy_id, is_paper, quantity, entry_price, entry_time, cost_usd, position_size_usd,
    fees_usd, leverage, stop_loss_price, take_profit_price, entry_order_id, entry_client_order_id, entry_market_time_ms,
    decision_id, asset_class, created_at
  ) values (
    p_fill.user_id, p_fill.exchange, p_fill.symbol, p_fill.side, p_fill.strategy_id, p_fill.is_paper, p_fill.quantity,
    p_fill.price, p_fill.created_at, trim_scale(p_fill.quantity * p_fill.price), trim_scale(p_fill.quantity * p_fill.price),
    p_fill.fee_usd, p_fill.leverage,
    (p_details ->> 'stop_loss_price')::numeric, (p_details ->> 'take_profit_price')::numeric, p_fill.order_id,
    p_fill.client_order_id, p_fill.market_time_ms,
    (select l.id from public.ai_trade_log l where l.id::text = p_fill.request_id and l.ai_strategy_id = p_fill.strategy_id),
    'crypto', p_fill.created_at
  ) returning *
$$;

create or replace function public.increase_position(
  p_position public.positions, p_fill public.fills, p_details jsonb
) returns void
language plpgsql set search_path = '' as $$
declare
  v_cost numeric := trim_scale(
    coalesce(p_position.cost_usd, p_position.entry_price * p_position.quantity) + p_fill.quantity * p_fill.price
  );
  v_quantity numeric := p_position.quantity + p_fill.quantity;
begin
  update public.positions
    set quantity = v_quantity, cost_usd = v_cost, position_size_usd = v_cost,
        entry_price = public.quotient(v_cost, v_quantity),
        fees_usd = fees_usd + p_fill.fee_usd, leverage = p_fill.leverage,
        stop_loss_price = coalesce((p_details ->> 'stop_loss_price')::numeric, stop_loss_price),
        take_profit_price = coalesce((p_details ->> 'take_profit_price')::numeric, take_profit_price)
    where id = p_position.id;
end
$$;

-- P&L = (exit value - entry cost) with the side's sign, less the entry fees of the closed part and the exit fee. The closed part
-- has its share of cost and fees, and the rest is the whole less that: however many parts, their sum is the whole. Percent is of
-- the entry cost, without leverage. An exit is booked also where the row does not say what was paid: then at what it brought.
create or replace function public.insert_trade(
  p_position public.positions, p_fill public.fills, p_details jsonb
) returns public.trades
language plpgsql set search_path = '' as $$
declare
  v_is_all boolean := p_fill.quantity = p_position.quantity;
  v_value numeric := trim_scale(p_fill.quantity * p_fill.price);
  v_all_cost numeric := coalesce(public.figure(p_position.cost_usd), public.figure(p_position.entry_price * p_position.quantity));
  v_all_fees numeric := coalesce(public.figure(p_position.fees_usd), 0);
  v_cost numeric := coalesce(
    case when v_is_all then v_all_cost else public.quotient(v_all_cost * p_fill.quantity, p_position.quantity) end, v_value
  );
  v_fees numeric := p_fill.fee_usd
    + case when v_is_all then v_all_fees else public.quotient(v_all_fees * p_fill.quantity, p_position.quantity) end;
  v_pnl numeric := trim_scale((v_value - v_cost) * case p_fill.side when 'LONG' then 1 else -1 end - v_fees);
  v_trade public.trades;
begin
  insert into public.trades (
    user_id, exchange, symbol, side, strategy_id, is_paper, quantity, entry_price, entry_time, exit_price, exit_time,
    position_size_usd, fees_usd, leverage, stop_loss_price, take_profit_price, pnl_usd, pnl_percent, is_winner, exit_reason,
    order_id, client_order_id, request_id, entry_order_id, entry_client_order_id, entry_market_time_ms, exit_market_time_ms,
    decision_id
  ) values (
    p_position.user_id, p_position.exchange, p_position.symbol, p_fill.side, p_position.strategy_id, p_position.is_paper,
    p_fill.quantity, p_position.entry_price, coalesce(p_position.entry_time, p_position.created_at), p_fill.price,
    p_fill.created_at, v_cost, v_fees, p_position.leverage, p_position.stop_loss_price, p_position.take_profit_price, v_pnl,
    round(v_pnl * 100 / nullif(v_cost, 0), 4), v_pnl > 0, p_details ->> 'exit_reason', p_fill.order_id,
    p_fill.client_order_id, p_fill.request_id, p_position.entry_order_id, p_position.entry_client_order_id,
    p_position.entry_market_time_ms, p_fill.market_time_ms, p_position.decision_id
  ) returning * into v_trade;
  return v_trade;
end
$$;

create or replace function public.value_positions(p_ids uuid[], p_price numeric) returns void
language sql set search_path = '' as $$
  update public.positions p
    set current_price = p_price, last_price_update = clock_timestamp(), unrealized_pnl_usd = trim_scale(u.pnl),
        unrealized_pnl_percent = round(u.pnl * 100 / nullif(u.cost, 0), 4)
    from (
      select q.id, q.cost,
        (q.quantity * p_price - q.cost) * case q.side when 'LONG' then 1 else -1 end - q.fees_usd as pnl
      from (
        select o.id, o.quantity, o.fees_usd, public.position_side(o.side) as side,
          coalesce(o.cost_usd, o.entry_price * o.quantity) as cost
        from public.positions o where o.id = any (p_ids)
      ) q
    ) u
    where p.id = u.id
$$;

-- Adds realised P&L (already in trades) and lifts the peak to today's equity, if that is known.
create or replace function public.update_ledger(p_strategy_id uuid, p_is_paper boolean, p_realized numeric) returns void
language plpgsql set search_path = '' as $$
begin
  if not exists (select from public.ai_strategies s where s.id = p_strategy_id) then
    return; -- a person's own signal belongs to no strategy's equity
  end if;
  insert into public.strategy_ledger (strategy_id, is_paper, realized_pnl_usd)
    select p_strategy_id, p_is_paper, coalesce(sum(public.figure(t.pnl_usd)), 0) - p_realized
    from public.trades t where t.strategy_id = p_strategy_id and t.is_paper = p_is_paper
    having not exists (select from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper)
    on conflict do nothing;
  -- A statement sees what was there when it began, however long it waits for a row. Waiting first, the next one never adds
  -- the profit that a booking has just realised to the same profit unrealised.
  perform from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper for update;
  update public.strategy_ledger l
    set realized_pnl_usd = l.realized_pnl_usd + p_realized, updated_at = clock_timestamp(),
        peak_pnl_usd = greatest(l.peak_pnl_usd, public.figure(l.realized_pnl_usd + p_realized + ( -- null counts for nothing
          select coalesce(sum(coalesce(p.unrealized_pnl_usd, -p.fees_usd)), 0) from public.positions p
          where p.strategy_id = p_strategy_id and p.is_paper = p_is_paper
        )))
    where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper;
end
$$;

-- A point for every book whose equity is known and has moved since its last one, at most one per interval; how many.
create or replace function public.record_equity(p_interval_s double precision) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_count integer;
begin
  insert into public.equity_points (
    strategy_id, is_paper, equity_usd, realized_pnl_usd, unrealized_pnl_usd, drawdown_percent
  )
  select s.id, l.is_paper, f.equity_usd, f.realized_pnl_usd, f.unrealized_pnl_usd, coalesce(f.drawdown_percent, 100)
  from public.strategy_ledger l
  join public.ai_strategies s on s.id = l.strategy_id
  cross join lateral public.strategy_figures(s.id, l.is_paper, s.capital_usd) f
  left join lateral (
    select e.at, e.equity_usd from public.equity_points e
    where e.strategy_id = l.strategy_id and e.is_paper = l.is_paper order by e.at desc limit 1
  ) last on true
  where public.figure(f.equity_usd) is not null and public.figure(f.drawdown_percent) is not distinct from f.drawdown_percent
    and (last.at is null
      or (last.at <= clock_timestamp() - make_interval(secs => p_interval_s) and last.equity_usd <> f.equity_usd))
  on conflict do nothing;
  get diagnostics v_count = row_count;
  return to_jsonb(v_count);
end
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array['public.figure(numeric)', 'public.quotient(numeric, numeric)']::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
