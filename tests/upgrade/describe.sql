-- Every fact about the extension's objects that a user or another node could notice, one line each, without OIDs.
with member as (
    select classid, objid from pg_depend
     where refclassid = 'pg_extension'::regclass and deptype = 'e'
       and refobjid = (select oid from pg_extension where extname = 'spock')
), rel as (
    select c.* from pg_class c where c.relnamespace = 'spock'::regnamespace
), func as (
    select p.* from pg_proc p where p.pronamespace = 'spock'::regnamespace
), fact (line) as (
    select format('extension: version %s, configuration %s, condition %s', extversion,
                  (select array_agg(c::regclass) from unnest(extconfig) c), extcondition)
      from pg_extension where extname = 'spock'
    union all
    select 'member: ' || pg_describe_object(classid, objid, 0) from member
    union all
    select format('not a member: %s', oid::regclass) from rel
     where relkind in ('r', 'v', 'S') and not exists (select from member where classid = 'pg_class'::regclass and objid = rel.oid)
    union all
    select format('not a member: %s', oid::regprocedure) from func
     where not exists (select from member where classid = 'pg_proc'::regclass and objid = func.oid)
    union all
    select format('relation: %s kind %s persistence %s options %s identity %s acl %s columns %s', oid::regclass, relkind, relpersistence,
                  reloptions, relreplident, relacl, relnatts) from rel where relkind <> 't'
    union all
    select format('column: %s.%s number %s type %s dims %s not null %s identity %s generated %s collation %s storage %s options %s acl %s default %s',
                  a.attrelid::regclass, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attndims, a.attnotnull,
                  a.attidentity, a.attgenerated, a.attcollation, a.attstorage, a.attoptions, a.attacl,
                  (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef d where d.adrelid = a.attrelid and d.adnum = a.attnum))
      from pg_attribute a join rel on rel.oid = a.attrelid
     where a.attnum > 0 and relkind in ('r', 'v')
    union all
    select format('constraint: %s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(c.oid))
      from pg_constraint c join rel on rel.oid = c.conrelid
    union all
    select format('index: %s', pg_get_indexdef(i.indexrelid)) from pg_index i join rel on rel.oid = i.indexrelid
    union all
    select format('sequence: %s %s start %s increment %s max %s min %s cache %s cycle %s owned by %s', s.seqrelid::regclass, s.seqtypid::regtype, s.seqstart,
                  s.seqincrement, s.seqmax, s.seqmin, s.seqcache, s.seqcycle,
                  (select pg_describe_object(refclassid, refobjid, refobjsubid) from pg_depend
                    where classid = 'pg_class'::regclass and objid = s.seqrelid and refobjsubid > 0))
      from pg_sequence s join rel on rel.oid = s.seqrelid
    union all
    select format('view: %s: %s', oid::regclass, pg_get_viewdef(oid)) from rel where relkind = 'v'
    union all
    select format('trigger: %s enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
      from pg_trigger t join rel on rel.oid = t.tgrelid where not t.tgisinternal
    union all
    select format('function: %s kind %s arguments (%s) result %s language %s volatility %s strict %s parallel %s secdef %s leakproof %s settings %s acl %s cost %s rows %s library %s source %s',
                  p.oid::regprocedure, prokind, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), l.lanname, provolatile,
                  proisstrict, proparallel, prosecdef, proleakproof, proconfig, proacl, procost, prorows, probin, prosrc)
      from func p join pg_language l on l.oid = p.prolang
    union all
    select format('aggregate: %s kind %s transition %s state %s init %s final %s', aggfnoid::regprocedure, aggkind, aggtransfn,
                  aggtranstype::regtype, agginitval, aggfinalfn)
      from pg_aggregate join func on func.oid = aggfnoid
    union all
    select format('first privileges: %s: %s', pg_describe_object(classoid, objoid, objsubid), initprivs) from pg_init_privs
     where (classoid, objoid) in (select classid, objid from member) or (classoid, objoid) = ('pg_namespace'::regclass, 'spock'::regnamespace)
    union all
    select format('schema: acl %s', nspacl) from pg_namespace where nspname = 'spock'
    union all
    select format('reserved: %s', r) from spock.reserved_object r
)
select line from fact order by line collate "C"
