// Loads and runs TF.js graph models: node run_tfjs.mjs NODE_MODULES; see the class Node in run_tfjs.py.
// A request is a line, {"load": folder} or {"inputs": {name: {dtype, shape, data}}}; data is base64.

import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import {createRequire} from 'node:module';

// Standard output belongs to the answers.
console.log = console.info = console.warn = console.error;
const load = createRequire(path.join(process.argv[2], 'from.js'));
const tf = load('@tensorflow/tfjs-core');
load('@tensorflow/tfjs-backend-cpu');
const {loadGraphModel} = load('@tensorflow/tfjs-converter');

const VIEWS = {float32: Float32Array, int32: Int32Array, bool: Uint8Array};
let model;
let inputNames;  // [signature's name, tensor's name]
let outputNames;

async function open(folder) {
  const json = JSON.parse(fs.readFileSync(path.join(folder, 'model.json')));
  const {weightsManifest, ...artifacts} = json;
  const files = weightsManifest.flatMap((group) => group.paths);
  const bytes = Buffer.concat(files.map((file) => fs.readFileSync(path.join(folder, file))));
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  model = await loadGraphModel({load: async () => ({...artifacts, weightSpecs, weightData})});
  const signature = json.signature ?? json.userDefinedMetadata.signature;
  inputNames = Object.entries(signature.inputs).map(([key, {name}]) => [bare(key), name]);
  const sorted = json.userDefinedMetadata.structuredOutputKeys;
  outputNames = Object.entries(signature.outputs).map(([key, {name}]) => {
    // Where two outputs are of one type the converter gives the name of the tensor for the key.
    const found = /^Identity(?:_(\d+))?:0$/.exec(key);
    return [found ? sorted[Number(found[1] ?? 0)] : bare(key), name];
  });
  return {};
}

function bare(name) {
  return name.replace(/:0$/, '');
}

function decode({dtype, shape, data}) {
  const bytes = Uint8Array.from(Buffer.from(data, 'base64'));
  return tf.tensor(new VIEWS[dtype](bytes.buffer), shape, dtype);
}

async function encode(tensor) {
  // A cast from bool keeps the bytes of bools.
  const values = VIEWS[tensor.dtype].from(await tensor.data());
  const data = Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64');
  return {dtype: tensor.dtype, shape: tensor.shape, data};
}

async function run(inputs) {
  const feeds = Object.fromEntries(inputNames.map(([key, name]) => [name, decode(inputs[key])]));
  const results = await model.executeAsync(feeds, outputNames.map(([, name]) => name));
  const tensors = Array.isArray(results) ? results : [results];
  const outputs = {};
  for (const [i, [key]] of outputNames.entries()) outputs[key] = await encode(tensors[i]);
  return {outputs};
}

await tf.setBackend('cpu');
for await (const line of readline.createInterface({input: process.stdin})) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = request.load ? await open(request.load) : await run(request.inputs);
  } catch (error) {
    answer = {error: String(error)};
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
