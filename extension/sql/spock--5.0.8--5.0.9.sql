/* Spock 5.0.8 to 5.0.9. Nothing changed in the catalogs. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit
