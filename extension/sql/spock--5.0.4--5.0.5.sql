/* Spock 5.0.4 to 5.0.5. Only functions changed; these are replaced on the way to 7.0.0. */

\echo Use "ALTER EXTENSION spock UPDATE" to load this file. \quit
