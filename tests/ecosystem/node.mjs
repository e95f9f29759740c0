// Reads JSON Lines files strictly. For each it prints its name, how many records there are, and the sum of their `n`; or its name and what went wrong.
import { readFileSync } from "node:fs";
import { basename } from "node:path";

function read(path) {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readFileSync(path));
    const lines = text.split("\n");
    if (lines.pop() !== "") throw new Error("the last line lacks its LF");
    const records = lines.map((line) => JSON.parse(line));
    return `${records.length} ${records.reduce((sum, record) => sum + (record.n ?? 0), 0)}`;
}

for (const path of process.argv.slice(2)) {
    let found;
    try {
        found = read(path);
    } catch (error) {
        found = String(error);
    }
    console.log(basename(path), found);
}
