/* Spock 5.0.2 to 5.0.3. Nothing changed in the catalogs. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit
