/* Spock 5.0.10 to 5.0.11. Nothing changed in the catalogs. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit
