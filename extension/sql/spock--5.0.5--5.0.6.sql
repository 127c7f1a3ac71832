/* Spock 5.0.5 to 5.0.6.  */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit

ALTER TABLE spock.subscription ADD COLUMN sub_created_at timestamptz;
