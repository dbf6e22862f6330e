// Loads a GLB with three.js, plays its animation and prints what stands where: node play.mjs FILE SECONDS...
// Output: {"duration": s, "joints": [[[x, y, z] of each bone] at each time], "vertices": [bounding box at each time]}
import { readFileSync } from "node:fs";
import { AnimationMixer, Box3, Vector3 } from "three";
import { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";

const [file, ...times] = process.argv.slice(2);
const bytes = readFileSync(file);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const gltf = await new GLTFLoader().parseAsync(buffer, "");
const body = gltf.scene.getObjectByProperty("type", "SkinnedMesh");
const mixer = new AnimationMixer(gltf.scene);
mixer.clipAction(gltf.animations[0]).play();

const joints = [];
const vertices = [];
for (const time of times) {
  mixer.setTime(Number(time));
  gltf.scene.updateMatrixWorld(true);
  body.skeleton.update();
  joints.push(body.skeleton.bones.map((bone) => bone.getWorldPosition(new Vector3()).toArray()));
  const box = new Box3();
  for (let i = 0; i < body.geometry.attributes.position.count; i++) {
    box.expandByPoint(body.getVertexPosition(i, new Vector3()));
  }
  vertices.push([box.min.toArray(), box.max.toArray()]);
}
console.log(JSON.stringify({ duration: gltf.animations[0].duration, joints, vertices }));
