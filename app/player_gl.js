// Drawing: skinned bodies, planar stencil shadows and an endless floor. Knows nothing of time, camera or page.

const MAX_CONTACTS = 6; // soft dark spots under feet and pelvis, two bodies in one view
const BODY_BONES = 24;
const KEY_LIGHT = unit([-0.42, 1.0, 0.62]); // towards the light, world space: above, in front, to the viewer's left

const SKINNING = `#version 300 es
precision highp float;
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in uvec4 joints;
layout(location = 3) in vec4 weights;
uniform vec4 bones[${BODY_BONES * 3}];
uniform mat4 viewProjection;
vec3 moved(vec4 p) {
  vec3 sum = vec3(0.0);
  for (int k = 0; k < 4; k++) {
    int b = int(joints[k]) * 3;
    sum += weights[k] * vec3(dot(bones[b], p), dot(bones[b + 1], p), dot(bones[b + 2], p));
  }
  return sum;
}
`;

const BODY_VERTEX = SKINNING + `
out vec3 worldNormal;
out vec3 world;
void main() {
  world = moved(vec4(position, 1.0));
  worldNormal = moved(vec4(normal, 0.0));
  gl_Position = viewProjection * vec4(world, 1.0);
}`;

const BODY_FRAGMENT = `#version 300 es
precision mediump float;
in vec3 worldNormal;
in highp vec3 world;
uniform highp vec3 eye;
uniform vec3 light, tint, sky, ground;
uniform float keyStrength, alpha;
out vec4 colour;
void main() {
  vec3 n = normalize(worldNormal);
  vec3 toEye = normalize(eye - world);
  float key = max(0.0, (dot(n, light) + 0.25) / 1.25);
  float facing = max(0.0, dot(n, toEye));
  float rim = pow(1.0 - facing, 3.0) * (0.55 + 0.45 * n.y);
  float nearFloor = mix(0.72, 1.0, smoothstep(0.0, 0.55, world.y));
  vec3 ambient = mix(ground, sky, 0.5 + 0.5 * n.y) * nearFloor;
  vec3 lit = tint * (ambient + keyStrength * key * key) + sky * rim * 0.22;
  lit = lit / (1.0 + 0.18 * dot(lit, vec3(0.3333)));
  colour = vec4(pow(lit, vec3(0.4545)), alpha);
}`;

const SHADOW_VERTEX = SKINNING + `
uniform vec3 light;
out vec2 floorAt;
void main() {
  vec3 p = moved(vec4(position, 1.0));
  floorAt = p.xz - light.xz / light.y * max(p.y, 0.0);
  gl_Position = viewProjection * vec4(floorAt.x, 0.0, floorAt.y, 1.0);
}`;

const SHADOW_FRAGMENT = `#version 300 es
precision mediump float;
in highp vec2 floorAt;
uniform highp vec2 under;
uniform vec3 shade;
uniform float strength;
out vec4 colour;
void main() {
  colour = vec4(shade, strength * (1.0 - 0.75 * smoothstep(0.1, 1.5, distance(floorAt, under))));
}`;

const FLOOR_VERTEX = `#version 300 es
precision highp float;
uniform mat4 viewProjection;
uniform vec3 centre; // x, z, half size
out vec2 at;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  at = centre.xy + corner * centre.z;
  gl_Position = viewProjection * vec4(at.x, 0.0, at.y, 1.0);
}`;

// Tiles of half a metre, a stronger line every metre: fixed in the world, so that a sliding foot shows.
const FLOOR_FRAGMENT = `#version 300 es
precision highp float;
in vec2 at;
uniform vec3 centre, floorTint, lineTint, shade;
uniform vec4 contacts[${MAX_CONTACTS}]; // x, z, radius, strength
uniform float tileContrast, lineStrength;
out vec4 colour;
float lines(vec2 p, float width) {
  vec2 w = fwidth(p);
  vec2 d = abs(fract(p - 0.5) - 0.5);
  vec2 on = 1.0 - smoothstep(vec2(0.0), w * 1.4, d - width);
  vec2 seen = clamp(1.4 - w * 3.0, 0.0, 1.0);
  return max(on.x * seen.x, on.y * seen.y);
}
void main() {
  float away = distance(at, centre.xy) / centre.z;
  float fade = 1.0 - smoothstep(0.18, 0.92, away);
  vec2 tile = mod(floor(at), 2.0);
  float odd = abs(tile.x - tile.y) * (1.0 - smoothstep(0.1, 0.6, fwidth(at.y)));
  float line = max(lines(at * 2.0, 0.004) * 0.45, lines(at, 0.006));
  vec3 base = mix(floorTint, lineTint, max(odd * tileContrast, line * lineStrength));
  float dark = 0.0;
  for (int i = 0; i < ${MAX_CONTACTS}; i++) {
    vec2 d = (at - contacts[i].xy) / max(contacts[i].z, 0.001);
    dark = max(dark, contacts[i].w * exp(-dot(d, d)));
  }
  colour = vec4(mix(base, shade, dark), fade);
}`;

class BodyRenderer {
  // Throws where there is no WebGL 2. The context lives as long as the canvas; bodies and motions are swapped in it.
  constructor(canvas) {
    this.canvas = canvas;
    const wanted = { alpha: true, antialias: true, depth: true, stencil: true, premultipliedAlpha: true };
    this.gl = canvas.getContext("webgl2", wanted);
    if (!this.gl) throw new Error("WebGL 2 is missing");
    this.body = null;
    this.restore();
  }

  // Build everything that a lost context took along.
  restore() {
    const gl = this.gl;
    this.programs = {
      body: createProgram(gl, BODY_VERTEX, BODY_FRAGMENT),
      shadow: createProgram(gl, SHADOW_VERTEX, SHADOW_FRAGMENT),
      floor: createProgram(gl, FLOOR_VERTEX, FLOOR_FRAGMENT),
    };
    this.emptyArray = gl.createVertexArray();
    this.buffers = [];
    if (this.body) this.setBody(this.body);
  }

  setBody(body) {
    const gl = this.gl;
    this.body = body;
    this.buffers.forEach((buffer) => gl.deleteBuffer(buffer));
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    this.buffers = [
      attribute(gl, 0, body.positions, 3, gl.FLOAT, false),
      attribute(gl, 1, body.normals, 3, gl.BYTE, true, 4),
      attribute(gl, 2, body.joints, 4, gl.UNSIGNED_BYTE, null),
      attribute(gl, 3, body.weights, 4, gl.UNSIGNED_BYTE, true),
      gl.createBuffer(),
    ];
    // One index buffer: the full mesh, then the light one.
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers[4]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, body.triangles.byteLength + body.lightTriangles.byteLength, gl.STATIC_DRAW);
    gl.bufferSubData(gl.ELEMENT_ARRAY_BUFFER, 0, body.triangles);
    gl.bufferSubData(gl.ELEMENT_ARRAY_BUFFER, body.triangles.byteLength, body.lightTriangles);
    gl.bindVertexArray(null);
  }

  drawMesh(light) {
    const gl = this.gl, { triangles, lightTriangles } = this.body;
    const type = triangles instanceof Uint16Array ? gl.UNSIGNED_SHORT : gl.UNSIGNED_INT;
    if (light) gl.drawElements(gl.TRIANGLES, lightTriangles.length, type, triangles.byteLength);
    else gl.drawElements(gl.TRIANGLES, triangles.length, type, 0);
  }

  // views: [{x, y, width, height (pixels, y up), viewProjection, eye, centre [x, z], reach, actors}]
  // actors: [{bones, tint, alpha, under [x, z], contacts}]; style: colours of app/player.js; light: draw the light mesh.
  draw(views, style, light) {
    this.light = light;
    const gl = this.gl;
    gl.clearColor(0, 0, 0, 0);
    gl.clearStencil(0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT | gl.STENCIL_BUFFER_BIT);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.enable(gl.CULL_FACE);
    for (const view of views) {
      gl.viewport(view.x, view.y, view.width, view.height);
      this.drawFloor(view, style);
      gl.bindVertexArray(this.array);
      this.drawShadows(view, style);
      for (const actor of view.actors) this.drawBody(view, actor, style);
      gl.bindVertexArray(null);
    }
  }

  drawFloor(view, style) {
    const gl = this.gl, { program, at } = this.programs.floor;
    const contacts = new Float32Array(MAX_CONTACTS * 4);
    view.actors.forEach((actor, i) => contacts.set(actor.contacts.flat(), (i * contacts.length) / 2));
    gl.useProgram(program);
    gl.bindVertexArray(this.emptyArray);
    gl.disable(gl.DEPTH_TEST);
    gl.disable(gl.CULL_FACE);
    gl.enable(gl.BLEND);
    gl.uniformMatrix4fv(at.viewProjection, false, view.viewProjection);
    gl.uniform3f(at.centre, view.centre[0], view.centre[1], view.reach);
    gl.uniform4fv(at.contacts, contacts);
    gl.uniform3fv(at.floorTint, style.floor);
    gl.uniform3fv(at.lineTint, style.line);
    gl.uniform3fv(at.shade, style.shade);
    gl.uniform1f(at.tileContrast, style.tileContrast);
    gl.uniform1f(at.lineStrength, style.lineStrength);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.enable(gl.CULL_FACE);
  }

  // Every floor pixel is darkened once, however many triangles fall on it: the stencil counts.
  drawShadows(view, style) {
    const gl = this.gl, { program, at } = this.programs.shadow;
    gl.useProgram(program);
    gl.enable(gl.STENCIL_TEST);
    gl.stencilFunc(gl.EQUAL, 0, 0xff);
    gl.stencilOp(gl.KEEP, gl.KEEP, gl.INCR);
    gl.disable(gl.CULL_FACE);
    gl.uniformMatrix4fv(at.viewProjection, false, view.viewProjection);
    gl.uniform3fv(at.light, KEY_LIGHT);
    gl.uniform3fv(at.shade, style.shade);
    for (const actor of view.actors) {
      gl.uniform1f(at.strength, style.shadowStrength * mix(0.3, 1, actor.alpha));
      gl.uniform2fv(at.under, actor.under);
      gl.uniform4fv(at.bones, actor.bones);
      this.drawMesh(true);
    }
    gl.disable(gl.STENCIL_TEST);
    gl.enable(gl.CULL_FACE);
  }

  drawBody(view, actor, style) {
    const gl = this.gl, { program, at } = this.programs.body, solid = actor.alpha >= 1;
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.uniformMatrix4fv(at.viewProjection, false, view.viewProjection);
    gl.uniform4fv(at.bones, actor.bones);
    gl.uniform3fv(at.eye, view.eye);
    gl.uniform3fv(at.light, KEY_LIGHT);
    gl.uniform3fv(at.tint, actor.tint);
    gl.uniform3fv(at.sky, style.sky);
    gl.uniform3fv(at.ground, style.bounce);
    gl.uniform1f(at.keyStrength, style.keyStrength);
    gl.uniform1f(at.alpha, actor.alpha);
    if (solid) gl.disable(gl.BLEND);
    else this.drawDepthOnly();
    this.drawMesh(this.light);
    gl.enable(gl.BLEND);
  }

  // A see-through body shows its nearest surface only, not its own back.
  drawDepthOnly() {
    const gl = this.gl;
    gl.colorMask(false, false, false, false);
    this.drawMesh(this.light);
    gl.colorMask(true, true, true, true);
    gl.enable(gl.BLEND);
  }

  // Wait until everything asked for is in the picture.
  finish() {
    this.gl.readPixels(0, 0, 1, 1, this.gl.RGBA, this.gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  dispose() {
    const lose = this.gl.getExtension("WEBGL_lose_context");
    if (lose) lose.loseContext();
  }
}

// integer: normalized === null keeps whole numbers (joint indices).
function attribute(gl, location, data, size, type, normalized, stride = 0) {
  const buffer = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(location);
  if (normalized === null) gl.vertexAttribIPointer(location, size, type, stride, 0);
  else gl.vertexAttribPointer(location, size, type, normalized, stride, 0);
  return buffer;
}

// {program, at: uniform name -> location}
function createProgram(gl, vertexSource, fragmentSource) {
  const program = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, vertexSource], [gl.FRAGMENT_SHADER, fragmentSource]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error("The graphics driver refused a shader: " + logs.join(" ") + gl.getProgramInfoLog(program));
  }
  const at = {};
  const count = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS);
  for (let i = 0; i < count; i++) {
    const name = gl.getActiveUniform(program, i).name;
    at[name.replace("[0]", "")] = gl.getUniformLocation(program, name);
  }
  return { program, at };
}
