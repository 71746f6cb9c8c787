import { expect, test } from 'bun:test';
import { eachInTurns } from './turns.ts';

test('all items in their order, and others get a turn between', async () => {
  const seen: (number | string)[] = [];
  let goesOn = true;
  const other = () => {
    seen.push('other');
    if (goesOn) setImmediate(other);
  };
  setImmediate(other);
  const all = Array.from({ length: 10 }, (_, i) => i);
  await eachInTurns(all, 4, (item) => void seen.push(item));
  goesOn = false;
  expect(seen.filter((one) => one !== 'other')).toEqual(all);
  expect(seen.slice(0, 5)).toEqual([0, 1, 2, 3, 'other']);
});

test('nothing is nothing, and a throw comes through', async () => {
  await eachInTurns([], 1, () => {
    throw new Error('no item');
  });
  const failing = eachInTurns([1, 2, 3], 1, (item) => {
    if (item === 2) throw new Error(`at ${item}`);
  });
  await expect(failing).rejects.toThrow('at 2');
});
