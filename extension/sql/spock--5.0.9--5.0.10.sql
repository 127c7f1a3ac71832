/* Spock 5.0.9 to 5.0.10. Nothing changed in the catalogs. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit
