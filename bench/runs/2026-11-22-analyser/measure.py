import subprocess,time,resource,os,statistics as st,json,sys
S=sys.argv[1]
def run(cmd):
    import resource
    r0=resource.getrusage(resource.RUSAGE_CHILDREN); t=time.perf_counter()
    subprocess.run(cmd,shell=True,stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL,check=False)
    t=time.perf_counter()-t; r=resource.getrusage(resource.RUSAGE_CHILDREN)
    return t,(r.ru_utime+r.ru_stime-r0.ru_utime-r0.ru_stime)
A=f"{S} analyse g --fresh"
cmds={
 'wc -l':'cat /dev/null; wc -l g/*.log',
 'rg one thread':"rg -j1 -c -F '[ERROR]' g",
 'rg':"rg -c -F '[ERROR]' g",
 'grep -c':"LC_ALL=C grep -c -F '[ERROR]' g/*.log",
 'levels, 2':A+' --checkpoints none',
 'levels, 1':A+' --checkpoints none --workers 1',
 'levels, 2, checkpoints':A+' --checkpoints cp',
 'levels, 2, sqlite':"rm -f s.db*; "+A+' --checkpoints none --store sqlite:s.db',
 'templates, 1':A+' --checkpoints none --top templates --workers 1',
 'templates, 2':A+' --checkpoints none --top templates',
 '10,000 files':f'{S} analyse many --fresh --checkpoints none',
 'read 10,000 files':'find many -name "*.log" -print0 | xargs -0 cat',
}
R=int(sys.argv[2]); out={k:[] for k in cmds}
for i in range(R):
    for k,c in cmds.items(): out[k].append(run(c))
for k,v in out.items(): print(f"{k:26} wall median {st.median(x[0] for x in v):.3f} min {min(x[0] for x in v):.3f}  cpu {st.median(x[1] for x in v):.3f}")
json.dump(out,open('raw.json','w'))
