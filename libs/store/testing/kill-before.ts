// To be imported before a program: kills it at its N-th renaming (from 0) of a file or folder, by which everything of a repository comes to its place, by `KILL_BEFORE=N`.
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

let left = Number(process.env['KILL_BEFORE']);
const killing =
  <Arguments extends readonly unknown[], Result>(real: (...given: Arguments) => Result) =>
  (...given: Arguments): Result => {
    if (left-- === 0) process.kill(process.pid, 'SIGKILL');
    return real(...given);
  };
fs.rename = killing(fs.rename);
syncBuiltinESMExports();
