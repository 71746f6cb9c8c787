import { describe, expect, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MIGRATIONS, statementsOf } from './cql-migrations.ts';
import { COLUMNS } from './cql-rows.ts';

const folder = join(import.meta.dir, '../../../migrations/cql');
const options = {
  name: 'scylla',
  contactPoints: ['127.0.0.1'],
  keyspace: 'some_keyspace',
  datacenter: "d'c",
  replication: 3,
  username: undefined,
} as const;

describe('CQL migrations', () => {
  test('are all files of the folder, in order', () => {
    expect(MIGRATIONS.map(([name]) => `${name}.cql`)).toEqual(readdirSync(folder).sort());
    for (const [name, cql] of MIGRATIONS) expect(cql).toBe(readFileSync(join(folder, `${name}.cql`), 'utf8'));
  });

  test('can run twice, and leave no placeholder', () => {
    for (const statement of MIGRATIONS.flatMap(([, cql]) => statementsOf(cql, options))) {
      expect(statement).toMatch(/IF (NOT )?EXISTS|ADD \w+ \w+$/);
      expect(statement).not.toMatch(/\$\{|--|;/);
    }
  });

  test('quote the data centre', () => {
    const statement = statementsOf(MIGRATIONS[0]?.[1] ?? '', options)[0];
    expect(statement).toBe(
      "CREATE KEYSPACE IF NOT EXISTS some_keyspace WITH replication = {'class': 'NetworkTopologyStrategy', 'd''c': 3}",
    );
  });

  test('make the columns that rows are written to', () => {
    const all = MIGRATIONS.flatMap(([, cql]) => statementsOf(cql, options));
    const statement = all.find((each) => each.includes('userposts (')) ?? '';
    const columns = Object.entries(COLUMNS).map(([name, { type }]) => `${name} ${type}`);
    for (const column of columns) expect(statement).toContain(column);
  });
});
