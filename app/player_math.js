// Mathematics of the player: matrices, decoding of body and motions, forward kinematics.
// Metres, seconds, Y up, right-handed. 4x4 matrices are column-major Float32Array(16); quaternions are (w, x, y, z).
"use strict";

const PACK_VERSION = 1; // core/render/player_pack.py
const QUATERNION_SCALE = 32767;
const SOFTENING = 4; // rounds of averaging normals over neighbours: a mannequin rather than a portrait
const COARSE_CELL_M = 0.02; // vertices this close become one in the light mesh
const FACE_CELL_M = 0.008; // a face of coarser triangles looks torn
const HEAD = 15; // SMPL joint
const FOLLOW_SMOOTHING_S = 0.45; // standard deviation of the Gaussian that turns the pelvis' path into the camera's

function perspective(fovY, aspect, near, far) {
  const f = 1 / Math.tan(fovY / 2);
  const m = new Float32Array(16);
  m[0] = f / aspect;
  m[5] = f;
  m[10] = (far + near) / (near - far);
  m[11] = -1;
  m[14] = (2 * far * near) / (near - far);
  return m;
}

function lookAt(eye, target) {
  const z = unit([eye[0] - target[0], eye[1] - target[1], eye[2] - target[2]]);
  const x = unit([z[2], 0, -z[0]]); // up x z; the camera never looks straight down
  const y = [z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0]];
  return new Float32Array([
    x[0], y[0], z[0], 0, x[1], y[1], z[1], 0, x[2], y[2], z[2], 0, -dot(x, eye), -dot(y, eye), -dot(z, eye), 1,
  ]);
}

function multiply(a, b) {
  const out = new Float32Array(16);
  for (let column = 0; column < 4; column++) {
    for (let row = 0; row < 4; row++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += a[k * 4 + row] * b[column * 4 + k];
      out[column * 4 + row] = sum;
    }
  }
  return out;
}

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

function unit(v) {
  const length = Math.hypot(v[0], v[1], v[2]) || 1;
  return [v[0] / length, v[1] / length, v[2] / length];
}

function mix(a, b, t) {
  return a + (b - a) * t;
}

function clamp(x, low, high) {
  return Math.min(high, Math.max(low, x));
}

function bytesFromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes.buffer;
}

// ArrayBuffer of core.render.player_pack.body_bytes -> typed arrays that go to the GPU as they are.
function decodeBody(buffer) {
  const magic = String.fromCharCode(...new Uint8Array(buffer, 0, 4));
  if (magic !== "EABD") throw new Error("The body file is not one of this player.");
  const headerBytes = new DataView(buffer).getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, headerBytes)));
  if (header.version !== PACK_VERSION) throw new Error("The body file is of version " + header.version + ".");
  const n = header.vertices;
  let at = 8 + headerBytes;
  const take = (type, count) => {
    const array = new type(buffer, at, count);
    at += array.byteLength;
    return array;
  };
  const body = {
    positions: take(Float32Array, n * 3),
    joints: take(Uint8Array, n * 4),
    weights: take(Uint8Array, n * 4),
    triangles: take(header.index_bytes === 2 ? Uint16Array : Uint32Array, header.faces * 3),
    parents: header.parents,
    rest: Float32Array.from(header.joints.flat()),
    lift: header.ground_offset,
    path: header.path || { scale: 1, rest: header.joints[0] }, // of a body that motions were not made for
  };
  body.normals = vertexNormals(body.positions, body.triangles);
  body.lightTriangles = lightTriangles(body);
  return body;
}

// About a third of the triangles over the same vertices, for shadows and for slow machines: vertices of one cell and
// one main joint become the first of them, and triangles without area go.
function lightTriangles(body) {
  const first = new Map();
  const stands = Array.from({ length: body.positions.length / 3 }, (_, v) => {
    const size = body.joints[v * 4] === HEAD ? FACE_CELL_M : COARSE_CELL_M;
    const cell = (k) => Math.round(body.positions[v * 3 + k] / size) + 512;
    const key = ((cell(0) * 1024 + cell(1)) * 1024 + cell(2)) * 32 + body.joints[v * 4];
    if (!first.has(key)) first.set(key, v);
    return first.get(key);
  });
  const kept = [];
  for (let t = 0; t < body.triangles.length; t += 3) {
    const [a, b, c] = [stands[body.triangles[t]], stands[body.triangles[t + 1]], stands[body.triangles[t + 2]]];
    if (a !== b && b !== c && c !== a) kept.push(a, b, c);
  }
  return body.triangles.constructor.from(kept);
}

// Area-weighted normals, softened, as normalised Int8, four bytes a vertex.
function vertexNormals(positions, triangles) {
  let sum = new Float32Array(positions.length);
  for (let t = 0; t < triangles.length; t += 3) {
    const a = triangles[t] * 3, b = triangles[t + 1] * 3, c = triangles[t + 2] * 3;
    const ux = positions[b] - positions[a], uy = positions[b + 1] - positions[a + 1], uz = positions[b + 2] - positions[a + 2];
    const vx = positions[c] - positions[a], vy = positions[c + 1] - positions[a + 1], vz = positions[c + 2] - positions[a + 2];
    const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
    for (const i of [a, b, c]) {
      sum[i] += nx;
      sum[i + 1] += ny;
      sum[i + 2] += nz;
    }
  }
  for (let round = 0; round < SOFTENING; round++) sum = neighbourSums(sum, triangles);
  const packed = new Int8Array((positions.length / 3) * 4);
  for (let v = 0; v < positions.length / 3; v++) {
    const scale = 127 / (Math.hypot(sum[v * 3], sum[v * 3 + 1], sum[v * 3 + 2]) || 1);
    for (let k = 0; k < 3; k++) packed[v * 4 + k] = Math.round(sum[v * 3 + k] * scale);
  }
  return packed;
}

// The unit vectors of each vertex' triangles, summed.
function neighbourSums(vectors, triangles) {
  for (let i = 0; i < vectors.length; i += 3) {
    const scale = 1 / (Math.hypot(vectors[i], vectors[i + 1], vectors[i + 2]) || 1);
    for (let k = 0; k < 3; k++) vectors[i + k] *= scale;
  }
  const sum = new Float32Array(vectors.length);
  for (let t = 0; t < triangles.length; t += 3) {
    const a = triangles[t] * 3, b = triangles[t + 1] * 3, c = triangles[t + 2] * 3;
    for (let k = 0; k < 3; k++) {
      const total = vectors[a + k] + vectors[b + k] + vectors[c + k];
      sum[a + k] += total;
      sum[b + k] += total;
      sum[c + k] += total;
    }
  }
  return sum;
}

// Value of core.render.player_pack.pack_pair -> motions with typed arrays, a smooth camera path and its extent.
function decodePack(pack) {
  if (pack.version !== PACK_VERSION) throw new Error("This pair is of version " + pack.version + ". Reload the page.");
  const motions = pack.motions.map((motion) => {
    const translations = new Float32Array(bytesFromBase64(motion.translations));
    const path = smoothPath(translations, motion.frames, pack.fps);
    return {
      frames: motion.frames,
      fps: pack.fps,
      duration: (motion.frames - 1) / pack.fps,
      rotations: new Int16Array(bytesFromBase64(motion.rotations)),
      translations,
      path,
      bounds: pathBounds(path),
    };
  });
  return { motions, labels: pack.labels, fps: pack.fps, duration: Math.max(...motions.map((m) => m.duration)) };
}

// A body that stands still with its arms down: what the stage shows before the first pair.
function standingScene(body) {
  const n = body.parents.length;
  const rotations = new Int16Array(n * 4);
  for (let j = 0; j < n; j++) rotations[j * 4] = QUATERNION_SCALE;
  for (const [shoulder, angle] of [[16, -1.2], [17, 1.2]]) {
    rotations[shoulder * 4] = Math.cos(angle / 2) * QUATERNION_SCALE;
    rotations[shoulder * 4 + 3] = Math.sin(angle / 2) * QUATERNION_SCALE;
  }
  const lift = [0, -Math.min(body.rest[10 * 3 + 1], body.rest[11 * 3 + 1]), 0];
  const translations = Float32Array.from(lift, (up, k) => (body.rest[k] + up) / body.path.scale - body.path.rest[k]);
  const still = { frames: 1, fps: 20, duration: 0, rotations, translations, path: Float32Array.of(0, 0), bounds: [0, 0, 0, 0] };
  return { motions: [still, still], labels: ["A", "B"], fps: 20, duration: 0 };
}

// Pelvis (x, z) of every frame under a Gaussian window. Beyond its ends the path goes on point-mirrored, so that the
// camera starts and stops on the body: cut windows would look ahead and draw a walker smaller than one who stands.
function smoothPath(translations, frames, fps) {
  const sigma = FOLLOW_SMOOTHING_S * fps, reach = Math.ceil(2.5 * sigma), last = frames - 1;
  const sample = (g, k) => {
    const end = g < 0 ? 0 : last;
    if (g >= 0 && g <= last) return translations[g * 3 + k];
    return 2 * translations[end * 3 + k] - translations[clamp(2 * end - g, 0, last) * 3 + k];
  };
  const path = new Float32Array(frames * 2);
  for (let f = 0; f < frames; f++) {
    let x = 0, z = 0, total = 0;
    for (let g = f - reach; g <= f + reach; g++) {
      const weight = Math.exp(-0.5 * ((g - f) / sigma) ** 2);
      x += weight * sample(g, 0);
      z += weight * sample(g, 2);
      total += weight;
    }
    path[f * 2] = x / total;
    path[f * 2 + 1] = z / total;
  }
  return path;
}

function pathBounds(path) {
  const bounds = [Infinity, -Infinity, Infinity, -Infinity]; // x low, x high, z low, z high
  for (let i = 0; i < path.length; i += 2) {
    bounds[0] = Math.min(bounds[0], path[i]);
    bounds[1] = Math.max(bounds[1], path[i]);
    bounds[2] = Math.min(bounds[2], path[i + 1]);
    bounds[3] = Math.max(bounds[3], path[i + 1]);
  }
  return bounds;
}

// Two frames and the blend between them at time t; past its end a motion holds the last frame.
function frameAt(motion, t) {
  const position = clamp(t * motion.fps, 0, motion.frames - 1);
  const first = Math.min(Math.floor(position), Math.max(0, motion.frames - 2));
  return [first, Math.min(first + 1, motion.frames - 1), position - first];
}

function pathAt(motion, t) {
  const [f, g, blend] = frameAt(motion, t);
  return [mix(motion.path[f * 2], motion.path[g * 2], blend), mix(motion.path[f * 2 + 1], motion.path[g * 2 + 1], blend)];
}

function createPose(body) {
  const n = body.parents.length;
  return { bones: new Float32Array(n * 12), joints: new Float32Array(n * 3), rotations: new Float32Array(n * 9) };
}

// Forward kinematics at time t into `pose`: joints (J, 3) in the world, rotations (J, 3, 3) row-major, and
// bones (J, 3, 4) row-major, which move a rest vertex into the world.
function poseAt(body, motion, t, pose) {
  const [f, g, blend] = frameAt(motion, t);
  const n = body.parents.length;
  const local = poseAt.scratch;
  for (let j = 0; j < n; j++) {
    blendedRotation(motion.rotations, (f * n + j) * 4, (g * n + j) * 4, blend, local);
    placeJoint(body, pose, j, local, motion.translations, f * 3, g * 3, blend);
    const R = j * 9, B = j * 12, P = j * 3;
    for (let row = 0; row < 3; row++) {
      const a = pose.rotations[R + row * 3], b = pose.rotations[R + row * 3 + 1], c = pose.rotations[R + row * 3 + 2];
      pose.bones[B + row * 4] = a;
      pose.bones[B + row * 4 + 1] = b;
      pose.bones[B + row * 4 + 2] = c;
      pose.bones[B + row * 4 + 3] = pose.joints[P + row] - (a * body.rest[P] + b * body.rest[P + 1] + c * body.rest[P + 2]);
    }
  }
  return pose;
}
poseAt.scratch = new Float32Array(9);

// World rotation and position of joint j from its parent's; the root is its rest position, translated and lifted.
function placeJoint(body, pose, j, local, translations, f, g, blend) {
  const R = j * 9, P = j * 3, parent = body.parents[j];
  if (parent < 0) {
    pose.rotations.set(local, R);
    for (let k = 0; k < 3; k++) pose.joints[P + k] = body.path.scale * (body.path.rest[k] + mix(translations[f + k], translations[g + k], blend));
    pose.joints[P + 1] += body.lift;
    return;
  }
  const Q = parent * 9, O = parent * 3;
  const bone = [body.rest[P] - body.rest[O], body.rest[P + 1] - body.rest[O + 1], body.rest[P + 2] - body.rest[O + 2]];
  for (let row = 0; row < 3; row++) {
    const a = pose.rotations[Q + row * 3], b = pose.rotations[Q + row * 3 + 1], c = pose.rotations[Q + row * 3 + 2];
    for (let k = 0; k < 3; k++) pose.rotations[R + row * 3 + k] = a * local[k] + b * local[3 + k] + c * local[6 + k];
    pose.joints[P + row] = pose.joints[O + row] + a * bone[0] + b * bone[1] + c * bone[2];
  }
}

// Normalised linear blend of two stored quaternions -> row-major 3x3 matrix.
function blendedRotation(stored, from, to, blend, out) {
  let w = mix(stored[from], stored[to], blend), x = mix(stored[from + 1], stored[to + 1], blend);
  let y = mix(stored[from + 2], stored[to + 2], blend), z = mix(stored[from + 3], stored[to + 3], blend);
  const scale = 1 / (Math.hypot(w, x, y, z) || QUATERNION_SCALE);
  w *= scale;
  x *= scale;
  y *= scale;
  z *= scale;
  out[0] = 1 - 2 * (y * y + z * z);
  out[1] = 2 * (x * y - w * z);
  out[2] = 2 * (x * z + w * y);
  out[3] = 2 * (x * y + w * z);
  out[4] = 1 - 2 * (x * x + z * z);
  out[5] = 2 * (y * z - w * x);
  out[6] = 2 * (x * z - w * y);
  out[7] = 2 * (y * z + w * x);
  out[8] = 1 - 2 * (x * x + y * y);
}
