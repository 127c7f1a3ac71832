/* Spock 5.0.7 to 5.0.8. Nothing changed in the catalogs. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit
