/* Spock 5.0.1 to 5.0.2. The new sub_create, with skip_schema, comes with 7.0.0. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit

-- The column holds an array from the beginning; the step to 5.0.7 gives it its type.
ALTER TABLE spock.subscription ADD COLUMN sub_skip_schema text;

DROP FUNCTION spock.sub_create(name, text, text[], boolean, boolean, text[], interval, boolean, boolean);
