#version 330 core
// Floor and bodies. Instance 0 is the body itself, instance 1 the same mesh flattened onto the floor: its shadow.

layout(location = 0) in vec3 position;
#ifdef NORMAL_LOC
layout(location = NORMAL_LOC) in vec3 normal;
#endif
layout(location = INST_M_LOC) in mat4 inst_m;

uniform mat4 M;
uniform mat4 V;
uniform mat4 P;

out vec3 frag_position;
#ifdef NORMAL_LOC
out vec3 frag_normal;
out float frag_height;            // of the body part that casts, metres
flat out int is_shadow;
#endif

void main()
{
    vec4 world = M * inst_m * vec4(position, 1.0);
    frag_position = world.xyz;
#ifdef NORMAL_LOC
    frag_normal = mat3(M) * normal;
    frag_height = position.y;
    is_shadow = gl_InstanceID;
#endif
    gl_Position = P * V * world;
}
